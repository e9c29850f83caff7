//! One event as one line.
//!
//! Values may come from clients. So each is cut to a bounded length, and what is not printable is
//! shown escaped: no value can begin a line of its own, move the cursor or hide what follows.
//! Spans are not shown: the product has none.

use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;
use super::rate::PlaceLimits;
use crate::limits::VALUE_CHARS_MAX;

/// Stands where a value was cut.
const CUT: &str = "…";

/// Makes lines of events, of those that may speak.
pub(super) struct LineFormat {
    format: LogFormat,
    limits: PlaceLimits,
}

impl LineFormat {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format, limits: PlaceLimits::default() }
    }
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // Nothing written is no line.
        let Some(suppressed) = self.limits.permit(event.metadata()) else { return Ok(()) };
        let mut values = Values { format: self.format, message: String::new(), fields: Vec::new() };
        event.record(&mut values);
        if suppressed > 0 {
            values.fields.push(("suppressed", Value::Plain(suppressed.to_string())));
        }
        match self.format {
            LogFormat::Text => values.write_text(writer, event),
            LogFormat::Json => values.write_json(writer, event),
        }
    }
}

/// What an event says.
struct Values {
    format: LogFormat,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    /// A number or a truth value.
    Plain(String),
    /// Anything else, cut and escaped.
    Text(String),
}

impl Values {
    fn write_text(self, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        if writer.has_ansi_escapes() {
            write!(writer, " \x1b[{}m{level:>5}\x1b[0m", colour(level))?;
        } else {
            write!(writer, " {level:>5}")?;
        }
        write!(writer, " {target}: {}", self.message)?;
        for (name, value) in self.fields {
            let (Value::Plain(value) | Value::Text(value)) = value;
            write!(writer, " {name}={value}")?;
        }
        writeln!(writer)
    }

    fn write_json(self, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (level, target) = (event.metadata().level(), event.metadata().target());
        write!(writer, "{{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{level}\",\"message\":{}", Quoted(&self.message))?;
        for (name, value) in self.fields {
            match value {
                Value::Plain(value) => write!(writer, ",\"{name}\":{value}")?,
                Value::Text(value) => write!(writer, ",\"{name}\":{}", Quoted(&value))?,
            }
        }
        writeln!(writer, ",\"target\":{}}}", Quoted(target))
    }

    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Plain(text) | Value::Text(text)) => self.message = text,
            // Raw identifiers are Rust's, not the reader's.
            (name, value) => self.fields.push((name.trim_start_matches("r#"), value)),
        }
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, Value::Text(Escaped::of(format_args!("{value:?}"), false)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // In text, a plain string has quotation marks, as a value that may hold blanks needs.
        let quoted = self.format == LogFormat::Text && field.name() != "message";
        let mut text = Escaped::of(format_args!("{value}"), quoted);
        if quoted {
            text = format!("\"{text}\"");
        }
        self.add(field, Value::Text(text));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Plain(value.to_string()));
    }
}

/// Text that grows to a bounded length, with what is not printable escaped.
struct Escaped {
    text: String,
    chars: usize,
    /// Quotation marks and backslashes are escaped, too.
    quoted: bool,
}

impl Escaped {
    fn of(text: fmt::Arguments<'_>, quoted: bool) -> String {
        let mut escaped = Self { text: String::new(), chars: 0, quoted };
        if escaped.write_fmt(text).is_err() {
            escaped.text.push_str(CUT);
        }
        escaped.text
    }
}

impl fmt::Write for Escaped {
    /// An error: the text is as long as it may be. Its formatter stops then.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if self.chars == VALUE_CHARS_MAX {
                return Err(fmt::Error);
            }
            self.chars += 1;
            match char {
                '"' | '\'' | '\\' if !self.quoted => self.text.push(char),
                '\'' => self.text.push(char),
                _ => self.text.extend(char.escape_debug()),
            }
        }
        Ok(())
    }
}

/// Escaped text as a JSON string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for char in self.0.chars() {
            if matches!(char, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(char)?;
        }
        f.write_char('"')
    }
}

/// As terminals number them.
fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::limits::LINES_PER_PLACE_MAX;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(format: LogFormat, speak: impl FnOnce()) -> Vec<String> {
        let written = Lines::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(LineFormat::new(format))
            .finish();
        tracing::subscriber::with_default(subscriber, speak);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn speak() {
        let client_id = "evil\n\u{1b}[2J\u{202e}\"x\"\\";
        tracing::warn!(client_id, reason = %client_id, count = 7u64, seen = true, "closing {client_id}");
    }

    #[test]
    fn text_shows_what_is_not_printable_escaped_on_one_line() {
        let lines = lines(LogFormat::Text, speak);
        let expected = concat!(
            " WARN ottla_telemetry::logs::line::tests: closing evil\\n\\u{1b}[2J\\u{202e}\"x\"\\",
            " client_id=\"evil\\n\\u{1b}[2J\\u{202e}\\\"x\\\"\\\\\"",
            " reason=evil\\n\\u{1b}[2J\\u{202e}\"x\"\\ count=7 seen=true",
        );
        assert!(lines.len() == 1 && lines[0].ends_with(expected), "{lines:?}");
    }

    #[test]
    fn json_is_one_object_per_line_with_numbers_as_numbers() {
        let lines = lines(LogFormat::Json, speak);
        let text = r#""evil\\n\\u{1b}[2J\\u{202e}\"x\"\\""#;
        let expected = format!(
            r#"","level":"WARN","message":"closing {},"client_id":{text},"reason":{text},"count":7,"seen":true,"target":"ottla_telemetry::logs::line::tests"}}"#,
            &text[1..]
        );
        assert!(lines.len() == 1 && lines[0].ends_with(&expected), "{lines:?}\n{expected}");
        assert!(lines[0].starts_with(r#"{"timestamp":"20"#), "{lines:?}");
    }

    #[test]
    fn long_values_are_cut_with_a_mark() {
        let long = "ü".repeat(100_000);
        let lines = lines(LogFormat::Text, || tracing::info!(%long, "{long}"));
        let cut = format!("{}{CUT}", "ü".repeat(VALUE_CHARS_MAX));
        assert!(lines[0].ends_with(&format!(": {cut} long={cut}")), "{}", lines[0].len());
    }

    #[test]
    fn a_place_that_speaks_too_often_is_held_to_its_number() {
        let lines = lines(LogFormat::Text, || {
            for number in 0..1_000 {
                tracing::error!(number, "again");
            }
        });
        assert_eq!(lines.len(), LINES_PER_PLACE_MAX as usize);
    }
}
