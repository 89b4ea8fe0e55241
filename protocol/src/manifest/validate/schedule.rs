//! The forms of schedules and time zones.
//!
//! In: one text. Out: nothing if it has the form, or what is wrong with it and what was probably meant.

use super::super::problem::quoted;
use super::syntax::Fault;

/// A time zone's name; whether the zone exists is known where the schedule runs.
pub(super) fn time_zone(text: &str) -> Result<(), Fault> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+".contains(&b))
    };
    if text == "UTC" || (text.len() <= 64 && text.contains('/') && text.split('/').all(part)) {
        return Ok(());
    }
    let fault = Fault::new(format!(
        "{} is no time zone: UTC, or a name such as Europe/Berlin",
        quoted(text)
    ));
    Err(fault.meant(
        ["utc", "gmt", "z"]
            .contains(&text.to_lowercase().as_str())
            .then(|| "UTC".to_owned()),
    ))
}

/// Five fields of numbers, names, ranges, lists and steps, as cron has them.
pub(super) fn schedule(text: &str) -> Result<(), Fault> {
    const MONTHS: &[&str] = &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
        ("minute", 0, 59, &[]),
        ("hour", 0, 23, &[]),
        ("day of month", 1, 31, &[]),
        ("month", 1, 12, MONTHS),
        ("day of week", 0, 7, DAYS),
    ];
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != FIELDS.len() || text.len() > 256 {
        return Err(Fault::new(format!(
            "{} is no schedule: it has five fields (minute, hour, day of month, month, day of week), such as \
             \"*/5 * * * *\"",
            quoted(text)
        )));
    }
    for (field, (what, least, most, names)) in fields.into_iter().zip(FIELDS) {
        if !field
            .split(',')
            .all(|item| cron_item(item, least, most, names).is_some())
        {
            return Err(Fault::new(format!(
                "{} is no {what}: numbers from {least} to {most}, `*`, ranges such as {least}-{most}, and steps such as \
                 */2",
                quoted(field)
            )));
        }
    }
    Ok(())
}

/// `*`, `a`, `a-b`, each with an optional `/step`. Nothing if it is none of these.
fn cron_item(item: &str, least: u32, most: u32, names: &[&str]) -> Option<()> {
    let number = |text: &str| {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name));
        match named.and_then(|index| u32::try_from(index).ok()) {
            Some(index) => Some(index + least),
            None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            None => None,
        }
    };
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(number(step)?)),
        None => (item, None),
    };
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => (least, most),
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    let fits = least <= first && first <= last && last <= most && step.is_none_or(|step| (1..=most).contains(&step));
    fits.then_some(())
}

#[cfg(test)]
mod tests {
    use super::super::syntax::tests::check;
    use super::*;

    #[test]
    fn a_schedule_has_five_fields_within_their_bounds() {
        check(
            schedule,
            &["*/5 * * * *", "0 0 1 jan mon-fri", "0,30 9-17 * * 1-5", "59 23 31 12 7"],
            &[
                ("* * * *", None),
                ("60 * * * *", None),
                ("*/0 * * * *", None),
                ("5-1 * * * *", None),
                ("@daily", None),
            ],
        );
        check(
            time_zone,
            &["UTC", "Europe/Berlin", "America/Argentina/Ushuaia"],
            &[("utc", Some("UTC")), ("Berlin", None)],
        );
    }
}
