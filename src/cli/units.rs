//! Sizes, rates and times as people write and read them.

use std::time::Duration;

/// The longest time that can be given: ten years are as good as for ever, and no clock overflows.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A time in its largest unit that leaves no rest: `3m`, `90s`, `30d`. [`parse_duration`] reads it.
pub(super) fn exact(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let fits = units.iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

/// Parses `90` (seconds), `90s`, `5m`, `24h`, `7d` or `200ms`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no time: write a number and s, m, h or d, such as 30s or 24h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let duration = Duration::from_millis(number.checked_mul(unit_ms).ok_or_else(wrong)?);
    if duration <= DURATION_MAX { Ok(duration) } else { Err(format!("'{text}' is more than ten years")) }
}

/// Bytes with a binary unit and three digits: `1.23 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be shown as 1000 or more is shown in the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Bytes a second.
pub(super) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", size(bytes_per_second))
}

/// The mean rate of some bytes in some time.
pub(super) fn mean_rate(bytes: u64, elapsed: Duration) -> u64 {
    let ms = elapsed.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / ms).unwrap_or(u64::MAX)
}

/// A time in its two largest units: `1h 02m`, `3m 20s`, `4.2 s`.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `1 file`, `2 files`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Files, and empty folders apart, which the catalog has rows of as well.
pub(super) fn files(files: u64, folders: u64) -> String {
    match (files, folders) {
        (files, 0) => count(files, "file"),
        (0, folders) => count(folders, "empty folder"),
        (files, folders) => format!("{}, {}", count(files, "file"), count(folders, "empty folder")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("90"), parse_duration("90s"));
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        for wrong in ["", "h", "1w", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615d", "11000d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn exact_times_are_read_back() {
        for (seconds, text) in [(180, "3m"), (90, "90s"), (86_400, "1d"), (7_200, "2h"), (0, "0s")] {
            assert_eq!(exact(Duration::from_secs(seconds)), text);
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn sizes_have_three_digits() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (10 << 20, "10.0 MiB"), (256 << 20, "256 MiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(1023 * 1024), "1.00 MiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn times_are_written() {
        assert_eq!(time(Duration::from_millis(4_230)), "4.2 s");
        assert_eq!(time(Duration::from_secs(200)), "3m 20s");
        assert_eq!(time(Duration::from_secs(3_725)), "1h 02m");
    }
}
