//! Why there is no answer, and how a guest sees it. In: what went wrong. Out: one of the interface's three errors, with
//! the database's own code in front where it has one. What the database says of single values (its `DETAIL`) stays out.

use crate::types::QueryError;
use tokio_postgres::error::SqlState;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection became free in time.
    #[error("all connections to the database are in use; try again, or raise the capability's `maxConnections`")]
    Busy,
    /// The password is not here.
    #[error("the secret `password` of the capability has not come yet; try again")]
    NoPassword,
    /// The database cannot be spoken to.
    #[error("failed to reach the database: {0}; try again")]
    Unreachable(String),
    /// The call's time is up.
    #[error("the database did not answer within the time of the call")]
    TimeLimit,
    /// The answer is too large.
    #[error("the answer is too large: {0}; ask for fewer rows or columns, with LIMIT")]
    TooLarge(String),
    /// A cell has no value here.
    #[error("column {0}: {1}")]
    Cell(String, String),
    /// The call itself is wrong.
    #[error("{0}")]
    Params(String),
    /// The statement is wrong.
    #[error("{0}")]
    Query(String),
    /// The database refused it.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// What an error of the client's library means.
    pub(crate) fn of(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            // Its own text names the step only; why is behind it.
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            return Self::Unreachable(text);
        };
        let code = said.code();
        let text = format!("{}: {}", code.code(), said.message());
        match code.code().get(..2) {
            _ if *code == SqlState::PROTOCOL_VIOLATION => Self::Params(text),
            _ if *code == SqlState::INVALID_PASSWORD => Self::Refused(text),
            Some("22" | "07") => Self::Params(text),
            Some("42" | "26" | "34") => Self::Query(text),
            _ => Self::Refused(text),
        }
    }
}

impl From<Failure> for QueryError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::Params(_) => Self::InvalidParams(text),
            Failure::Query(_) => Self::InvalidQuery(text),
            _ => Self::Unexpected(text),
        }
    }
}
