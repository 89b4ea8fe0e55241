//! The exit codes: what a script may rely on.

use heddle_protocol::api::ErrorCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It failed for a reason that has no code of its own.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The manifest breaks rules.
    InvalidManifest = 3,
    /// There is no such object.
    NotFound = 4,
    /// Refused: it is in use, changed meanwhile, or not allowed.
    Refused = 5,
    /// No NATS server or no scheduler answers.
    Unreachable = 6,
    /// It was done, and what was waited for did not come about in time.
    TimedOut = 7,
    /// Whether it was done is not known.
    Unknown = 8,
}

impl Exit {
    /// Every exit code, in order.
    pub const ALL: [Exit; 9] = [
        Exit::Ok,
        Exit::Failed,
        Exit::Usage,
        Exit::InvalidManifest,
        Exit::NotFound,
        Exit::Refused,
        Exit::Unreachable,
        Exit::TimedOut,
        Exit::Unknown,
    ];

    /// What the code means, for `heddle help exit-codes`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "done",
            Exit::Failed => "failed, for a reason that has no code of its own",
            Exit::Usage => "the command line is wrong",
            Exit::InvalidManifest => "the manifest breaks rules; nothing was changed",
            Exit::NotFound => "there is no such object or host",
            Exit::Refused => "refused: in use, changed meanwhile, too large or not allowed; nothing was changed",
            Exit::Unreachable => "no NATS server or no scheduler answers; nothing was changed",
            Exit::TimedOut => "the change was made, and what was waited for did not come about in time",
            Exit::Unknown => "whether the change was made is not known; asking again is safe",
        }
    }
}

impl From<ErrorCode> for Exit {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidManifest => Exit::InvalidManifest,
            ErrorCode::NotFound => Exit::NotFound,
            ErrorCode::Conflict | ErrorCode::Forbidden | ErrorCode::RequestIdReused | ErrorCode::TooLarge => {
                Exit::Refused
            }
            ErrorCode::Unavailable => Exit::Unreachable,
            ErrorCode::Unknown => Exit::Unknown,
            ErrorCode::BadRequest | ErrorCode::Artifact | ErrorCode::Internal => Exit::Failed,
        }
    }
}

/// The table of exit codes, as text.
pub fn table() -> String {
    let line = |exit: &Exit| format!("  {}  {}\n", *exit as u8, exit.meaning());
    format!("Exit codes:\n{}", Exit::ALL.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbered_in_order_and_all_have_a_meaning() {
        for (at, exit) in Exit::ALL.iter().enumerate() {
            assert_eq!(*exit as usize, at);
            assert!(!exit.meaning().is_empty());
        }
        assert_eq!(table().lines().count(), Exit::ALL.len() + 1);
    }
}
