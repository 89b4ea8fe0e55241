//! Whether a schedule and a time zone are such that times can be worked out from them.

use std::str::FromStr;

/// A schedule of five fields.
pub(super) fn schedule(text: &str) -> Result<(), String> {
    match croner::Cron::from_str(text) {
        Ok(_) => Ok(()),
        Err(e) => Err(format!(
            "{text} is no schedule: {e}; five fields say when, such as `*/5 * * * *`"
        )),
    }
}

/// A time zone, by its name in the IANA database.
pub(super) fn time_zone(text: &str) -> Result<(), String> {
    match chrono_tz::Tz::from_str(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "there is no time zone {text}: name one such as UTC or Europe/Berlin"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_no_times_is_refused() {
        assert!(schedule("*/5 8-18 * * mon-fri").is_ok());
        assert!(schedule("61 * * * *").is_err());
        assert!(time_zone("Europe/Berlin").is_ok() && time_zone("UTC").is_ok());
        assert!(time_zone("Europe/Atlantis").is_err());
    }
}
