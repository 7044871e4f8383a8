//! The results of a run: one row each, for both text and JSON.

use std::fmt::Write;
use std::time::Duration;

/// Named figures in the order of display.
#[derive(Debug)]
pub(super) struct Report {
    rows: Vec<(&'static str, Value)>,
    warnings: Vec<String>,
}

/// A figure.
#[derive(Clone, Debug)]
enum Value {
    Count(u64),
    Number(f64),
    Text(&'static str),
}

impl Report {
    /// An empty report on this kind of work.
    pub(super) fn new(work: &'static str) -> Self {
        Self {
            rows: vec![("work", Value::Text(work))],
            warnings: Vec::new(),
        }
    }

    /// Adds a count.
    pub(super) fn count(&mut self, name: &'static str, count: u64) {
        self.rows.push((name, Value::Count(count)));
    }

    /// Adds a measurement or a ratio; its name contains the unit.
    pub(super) fn number(&mut self, name: &'static str, number: f64) {
        self.rows.push((name, Value::Number(number)));
    }

    /// Adds a duration in microseconds; its name ends in `_us`.
    pub(super) fn microseconds(&mut self, name: &'static str, duration: Duration) {
        debug_assert!(name.ends_with("_us"));
        self.number(name, duration.as_secs_f64() * 1e6);
    }

    /// Adds a warning for the reader of the figures.
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The warnings.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A line of text for each figure.
    pub(super) fn text(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or_default();
        let mut text = String::new();
        for (name, value) in &self.rows {
            let shown = match value {
                Value::Count(count) => count.to_string(),
                Value::Number(number) if number.abs() >= 1000.0 => format!("{number:.0}"),
                Value::Number(number) => format!("{number:.3}"),
                Value::Text(text) => (*text).to_owned(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:width$}  {shown:>14}", name.replace('_', " "));
        }
        text
    }

    /// One JSON object on one line. Names and texts are constants that need no escaping.
    pub(super) fn json(&self) -> String {
        let members: Vec<String> = self
            .rows
            .iter()
            .map(|(name, value)| match value {
                Value::Count(count) => format!("\"{name}\":{count}"),
                Value::Number(number) if number.is_finite() => format!("\"{name}\":{number:.3}"),
                Value::Number(_) => format!("\"{name}\":null"),
                Value::Text(text) => format!("\"{name}\":\"{text}\""),
            })
            .collect();
        format!("{{{}}}\n", members.join(","))
    }
}

/// `amount` per second; NaN if the duration is zero.
pub(super) fn per_second(amount: u64, duration: Duration) -> f64 {
    amount as f64 / duration.as_secs_f64()
}

/// `part` divided by `whole`; NaN if both are zero.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Adds the figures of the process in the middle.
pub(super) fn describe(
    report: &mut Report,
    cpu_time: Option<Duration>,
    elapsed: Duration,
    messages: u64,
) {
    if let Some(cpu_time) = cpu_time {
        let cpu_time_ns = u64::try_from(cpu_time.as_nanos()).unwrap_or(u64::MAX);
        report.number("cpu_ns_per_message", ratio(cpu_time_ns, messages));
        report.number("cpu_cores", cpu_time.as_secs_f64() / elapsed.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_show_every_row() {
        let mut report = Report::new("stream");
        report.count("sent", 12);
        report.number(
            "messages_per_second",
            per_second(3_000, Duration::from_millis(1500)),
        );
        report.number("cpu_ns_per_message", ratio(0, 0));
        report.microseconds("p50_us", Duration::from_nanos(70_250));
        let json = "{\"work\":\"stream\",\"sent\":12,\"messages_per_second\":2000.000,\
                    \"cpu_ns_per_message\":null,\"p50_us\":70.250}\n";
        assert_eq!(report.json(), json);
        let text = report.text();
        let shown: Vec<_> = text.lines().map(|line| line.rsplit("  ").next()).collect();
        assert_eq!(shown, ["stream", "12", "2000", "NaN", "70.250"].map(Some));
        assert!(text.contains("messages per second "), "{text}");
    }
}
