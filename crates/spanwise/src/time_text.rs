//! Times as people write them: RFC 3339, or nanoseconds since 1970; durations as `1h`, `30m`, `7d`.

use std::time::Duration;

const DAY_NS: i128 = 86_400_000_000_000;

/// Nanoseconds since 1970.
///
/// # Errors
/// What was expected.
pub fn parse_time(text: &str) -> Result<u64, String> {
    if let Ok(number) = text.parse::<u64>() {
        // Seconds, milliseconds, microseconds and nanoseconds of our time differ by three digits each.
        return Ok(match number {
            0..100_000_000_000 => number.saturating_mul(1_000_000_000),
            100_000_000_000..100_000_000_000_000 => number.saturating_mul(1_000_000),
            100_000_000_000_000..100_000_000_000_000_000 => number.saturating_mul(1_000),
            _ => number,
        });
    }
    rfc3339(text).ok_or_else(|| format!("{text:?} is no time: write 2026-11-24T09:30:00Z, or seconds since 1970"))
}

fn rfc3339(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let separators = text.get(4..5)? == "-" && text.get(7..8)? == "-" && matches!(text.get(10..11)?, "T" | "t" | " ");
    if !separators || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut fraction_ns = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        fraction_ns = format!("{:0<9}", &fraction[..digits]).get(..9)?.parse::<i64>().ok()?;
        rest = &fraction[digits..];
    }
    let offset_minutes = match rest {
        "Z" | "z" => 0,
        offset => {
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = offset.strip_prefix(['+', '-'])?.split_once(':')?;
            sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?)
        }
    };
    let seconds = i128::from(hour * 3600 + (minute - offset_minutes) * 60 + second);
    let nanos =
        i128::from(days_from_civil(year, month, day)) * DAY_NS + seconds * 1_000_000_000 + i128::from(fraction_ns);
    u64::try_from(nanos).ok()
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, counting years from March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// RFC 3339 in UTC with milliseconds.
pub fn format_time(unix_nano: u64) -> String {
    let days = (unix_nano / DAY_NS as u64) as i64 + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let millis = unix_nano / 1_000_000 % 86_400_000;
    let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", millis % 1_000)
}

/// `30m`, `1h`, `7d`.
///
/// # Errors
/// What was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days {
        Some(days) => Ok(Duration::from_secs(days.saturating_mul(86_400))),
        None => spanwise_pipeline::config::units::parse_duration(text)
            .map_err(|_| format!("{text:?} is no duration: write 30m, 1h or 7d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_and_print() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T12:30:45.5Z", 1_709_209_845_500_000_000),
            ("2024-02-29T13:30:45.5+01:00", 1_709_209_845_500_000_000),
            ("1709209845", 1_709_209_845_000_000_000),
            ("1709209845500", 1_709_209_845_500_000_000),
        ] {
            assert_eq!(parse_time(text), Ok(nanos), "{text}");
        }
        assert_eq!(format_time(1_709_209_845_500_000_000), "2024-02-29T12:30:45.500Z");
        for text in ["", "yesterday", "2024-13-01T00:00:00Z", "2024-01-01"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
    }
}
