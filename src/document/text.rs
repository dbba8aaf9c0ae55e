//! Durations, and the nearest word.

use std::time::Duration;

/// Parses a duration: a number with a unit (`500ms`, `1s`, `5m`, `1h 30m`, `2days`), or `0`.
///
/// # Errors
/// Says what was expected. A number without a unit is refused, because nobody could tell its unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let shown = text.escape_debug();
    if text.parse::<f64>().is_ok() {
        return Err(format!("`{shown}` has no unit; write for example `{shown}s` or `{shown}ms`"));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("`{shown}` is not a duration; write for example `1s`, `500ms`, `5m`"))
}

/// Returns advice that names the known word nearest to `word`, or all of them.
pub(super) fn nearest(word: &str, known: &[&str]) -> String {
    let best = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, candidate)) if likeness > 0.7 => format!("did you mean `{candidate}`?"),
        _ => format!("known are `{}`", known.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(parse_duration("10").unwrap_err().contains("has no unit"));
        assert!(parse_duration("1.5").unwrap_err().contains("has no unit"));
        for bad in ["", "soon", "-1s", "1 parsec", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words() {
        assert_eq!(nearest("quoat", &["store", "quota"]), "did you mean `quota`?");
        assert_eq!(nearest("zzz", &["store", "quota"]), "known are `store`, `quota`");
    }
}
