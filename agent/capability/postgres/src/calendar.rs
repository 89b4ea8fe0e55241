//! Days and times, between the numbers that Postgres sends and the fields that the interface has.
//!
//! In: days and microseconds since the year 2000. Out: year, month, day, hour, minute, second. The calendar is the
//! Gregorian one for all times, as in Postgres; the year 0 is 1 BC.

use crate::types::{Date, Offset, Time, Timestamp, TimestampTz};

/// Days from the beginning of the first 400-year era (1 March of the year 0) to 1 January 2000.
const ERA_TO_2000: i64 = 730_425;
const DAYS_PER_ERA: i64 = 146_097;
const MICROS_PER_SEC: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SEC;

/// A day from its number.
pub(crate) fn date(days: i32) -> Date {
    match days {
        i32::MAX => Date::PositiveInfinity,
        i32::MIN => Date::NegativeInfinity,
        days => Date::Ymd(year_month_day(i64::from(days))),
    }
}

/// Howard Hinnant's `civil_from_days`: years that begin in March have their leap day last.
fn year_month_day(days: i64) -> (i32, u32, u32) {
    let days = days + ERA_TO_2000;
    let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    // All three are in range: the number of a day has 32 bits.
    (year as i32, month as u32, day as u32)
}

/// A time of day from its microseconds.
pub(crate) fn time(micros: i64) -> Time {
    let part = |unit: i64, of: i64| u32::try_from(micros / unit % of).unwrap_or(0);
    Time {
        // 24:00:00 is a time of day in Postgres.
        hour: part(3_600 * MICROS_PER_SEC, 25),
        min: part(60 * MICROS_PER_SEC, 60),
        sec: part(MICROS_PER_SEC, 60),
        micro: part(1, MICROS_PER_SEC),
    }
}

/// A day and a time from their microseconds.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    let date = match micros {
        i64::MAX => Date::PositiveInfinity,
        i64::MIN => Date::NegativeInfinity,
        micros => Date::Ymd(year_month_day(micros.div_euclid(MICROS_PER_DAY))),
    };
    let micros = match date {
        Date::Ymd(_) => micros.rem_euclid(MICROS_PER_DAY),
        _ => 0,
    };
    Timestamp {
        date,
        time: time(micros),
    }
}

/// The same in UTC.
pub(crate) fn timestamp_tz(micros: i64) -> TimestampTz {
    TimestampTz {
        timestamp: timestamp(micros),
        offset: Offset::East(0),
    }
}

/// How many seconds west of UTC a clock is, as text such as `+02:00:00`.
pub(crate) fn offset_text(seconds_west: i64) -> String {
    let sign = if seconds_west <= 0 { '+' } else { '-' };
    let seconds = seconds_west.unsigned_abs();
    format!(
        "{sign}{:02}:{:02}:{:02}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// A day as Postgres reads it, and whether it is before our era.
fn date_parts(date: Date) -> (String, &'static str) {
    match date {
        Date::PositiveInfinity => ("infinity".to_owned(), ""),
        Date::NegativeInfinity => ("-infinity".to_owned(), ""),
        Date::Ymd((year, month, day)) if year > 0 => (format!("{year:04}-{month:02}-{day:02}"), ""),
        Date::Ymd((year, month, day)) => {
            let before = 1 - i64::from(year);
            (format!("{before:04}-{month:02}-{day:02}"), " BC")
        }
    }
}

/// A day as Postgres reads it.
pub(crate) fn date_text(date: Date) -> String {
    let (day, era) = date_parts(date);
    day + era
}

/// A time as Postgres reads it.
pub(crate) fn time_text(time: Time) -> String {
    let Time { hour, min, sec, micro } = time;
    format!("{hour:02}:{min:02}:{sec:02}.{micro:06}")
}

/// A day and a time as Postgres reads them, with a zone if there is one.
pub(crate) fn timestamp_text(timestamp: Timestamp, offset: Option<Offset>) -> String {
    let (day, era) = date_parts(timestamp.date);
    if !matches!(timestamp.date, Date::Ymd(_)) {
        return day;
    }
    let zone = match offset {
        None => String::new(),
        Some(Offset::East(seconds)) => offset_text(-i64::from(seconds)),
        Some(Offset::West(seconds)) => offset_text(i64::from(seconds)),
    };
    format!("{day} {}{zone}{era}", time_text(timestamp.time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_the_year_2000_over_leap_years_and_eras() {
        let expected = [
            (0, (2000, 1, 1)),
            (59, (2000, 2, 29)),
            (60, (2000, 3, 1)),
            (-1, (1999, 12, 31)),
            (-10_957, (1970, 1, 1)),
            (-730_119, (1, 1, 1)),
            (-730_120, (0, 12, 31)),
            (9_788, (2026, 10, 19)),
        ];
        for (days, ymd) in expected {
            assert_eq!(date(days), Date::Ymd(ymd), "{days}");
        }
        assert_eq!(date_text(date(-730_120)), "0001-12-31 BC");
        assert_eq!(date_text(date(i32::MAX)), "infinity");
    }

    #[test]
    fn a_timestamp_before_2000_has_a_time_of_its_day() {
        let last = timestamp(-1);
        assert_eq!(timestamp_text(last, None), "1999-12-31 23:59:59.999999");
        assert_eq!(
            timestamp_text(last, Some(Offset::West(5_400))),
            "1999-12-31 23:59:59.999999-01:30:00"
        );
        assert_eq!(timestamp_text(timestamp(i64::MIN), None), "-infinity");
    }
}
