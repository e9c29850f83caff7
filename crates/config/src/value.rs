//! The types a setting can have: how each is read and shown.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ottla_model::HostPort;

use crate::units::{ByteSize, parse_duration, parse_size, show_duration};

/// A value as a layer gave it. Environment and flags give text only.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    Text(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
}

impl Raw {
    /// As it would be written without quotes.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
        }
    }

    /// A whole number, however it was written.
    fn integer(&self) -> Option<i128> {
        /// Beyond this a float no longer tells neighbouring integers apart.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Integer(number) => Some(*number),
            Self::Float(number) if number.fract() == 0.0 && number.abs() <= EXACT_MAX => {
                Some(*number as i128)
            }
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// A type that a setting can have.
pub(crate) trait Value: Sized {
    /// For people: "size", "duration", …
    const KIND: &'static str;
    /// Stands for the value in help texts.
    const PLACEHOLDER: &'static str;
    /// What a legal value looks like, to end "expected …" with.
    const EXPECTED: &'static str;
    /// Never shown.
    const SECRET: bool = false;

    fn parse(raw: &Raw) -> Option<Self>;

    /// As it would be written; empty for "not set".
    fn show(&self) -> Raw;
}

impl Value for String {
    const KIND: &'static str = "text";
    const PLACEHOLDER: &'static str = "TEXT";
    const EXPECTED: &'static str = "text";

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn show(&self) -> Raw {
        Raw::Text(self.clone())
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";
    const PLACEHOLDER: &'static str = "PATH";
    const EXPECTED: &'static str = "a path";

    fn parse(raw: &Raw) -> Option<Self> {
        String::parse(raw).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    fn show(&self) -> Raw {
        Raw::Text(self.display().to_string())
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";
    const PLACEHOLDER: &'static str = "true|false";
    const EXPECTED: &'static str = "true or false";

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Bool(truth) => Some(*truth),
            Raw::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn show(&self) -> Raw {
        Raw::Bool(*self)
    }
}

macro_rules! integer {
    ($type:ty) => {
        impl Value for $type {
            const KIND: &'static str = "integer";
            const PLACEHOLDER: &'static str = "NUMBER";
            const EXPECTED: &'static str = "a whole number";

            fn parse(raw: &Raw) -> Option<Self> {
                raw.integer()?.try_into().ok()
            }

            fn show(&self) -> Raw {
                Raw::Integer(i128::from(*self))
            }
        }
    };
}

integer!(i16);
integer!(i32);
integer!(u16);
integer!(u32);
integer!(u64);

impl Value for ByteSize {
    const KIND: &'static str = "size";
    const PLACEHOLDER: &'static str = "SIZE";
    const EXPECTED: &'static str = "a size such as \"8MiB\"";

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => parse_size(text),
            _ => raw.integer()?.try_into().ok().map(Self),
        }
    }

    fn show(&self) -> Raw {
        Raw::Text(self.to_string())
    }
}

impl Value for Duration {
    const KIND: &'static str = "duration";
    const PLACEHOLDER: &'static str = "DURATION";
    const EXPECTED: &'static str = "a duration with its unit such as \"250ms\" or \"10s\"";

    fn parse(raw: &Raw) -> Option<Self> {
        parse_duration(&raw.text())
    }

    fn show(&self) -> Raw {
        Raw::Text(show_duration(*self))
    }
}

impl Value for SocketAddr {
    const KIND: &'static str = "address";
    const PLACEHOLDER: &'static str = "IP:PORT";
    const EXPECTED: &'static str = "an IP address and a port such as \"127.0.0.1:9092\"";

    fn parse(raw: &Raw) -> Option<Self> {
        String::parse(raw)?.parse().ok()
    }

    fn show(&self) -> Raw {
        Raw::Text(self.to_string())
    }
}

impl Value for HostPort {
    const KIND: &'static str = "host and port";
    const PLACEHOLDER: &'static str = "HOST:PORT";
    const EXPECTED: &'static str = "a host and a port such as \"broker-1.example.com:9092\"";

    fn parse(raw: &Raw) -> Option<Self> {
        let text = String::parse(raw)?;
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
            None => host.to_owned(),
        };
        let illegal = |c: char| c.is_whitespace() || matches!(c, '/' | '[' | ']' | '@');
        let legal = !host.is_empty() && !host.contains(illegal);
        let is_name = bracketed.is_some() || !host.contains(':');
        (legal && is_name).then_some(Self { host, port })
    }

    fn show(&self) -> Raw {
        Raw::Text(self.to_string())
    }
}

/// A text that is never shown, logged or printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Stands where a secret is set.
const MASK: &str = "********";

impl Value for Secret {
    const KIND: &'static str = "secret";
    const PLACEHOLDER: &'static str = "TEXT";
    const EXPECTED: &'static str = "text";
    const SECRET: bool = true;

    fn parse(raw: &Raw) -> Option<Self> {
        String::parse(raw).map(Self)
    }

    fn show(&self) -> Raw {
        Raw::Text(MASK.to_owned())
    }
}

/// Empty text stands for "not set".
impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;
    const EXPECTED: &'static str = T::EXPECTED;
    const SECRET: bool = T::SECRET;

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) if text.is_empty() => Some(None),
            _ => T::parse(raw).map(Some),
        }
    }

    fn show(&self) -> Raw {
        self.as_ref().map_or_else(|| Raw::Text(String::new()), Value::show)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn integral_floats_are_integers() {
        assert_eq!(i32::parse(&Raw::Float(9092.0)), Some(9092));
        assert_eq!(ByteSize::parse(&Raw::Float(8.388608e6)), Some(ByteSize(8 << 20)));
        assert_eq!(i32::parse(&Raw::Float(1.5)), None);
        assert_eq!(ByteSize::parse(&Raw::Float(1e300)), None);
        assert_eq!(i32::parse(&Raw::Float(f64::NAN)), None);
        assert_eq!(i32::parse(&Raw::Integer(1 << 40)), None);
        assert_eq!(i32::parse(&Raw::Integer(-5)), Some(-5));
    }

    #[test]
    fn hosts_may_be_names_or_addresses() {
        for shown in ["broker-1:9092", "10.0.0.1:1", "[::1]:9092"] {
            assert_eq!(HostPort::parse(&text(shown)).unwrap().to_string(), shown);
        }
        for bad in
            ["", ":9092", "broker", "broker:0", "broker:65536", "::1:9092", "a b:1", "http://a:1"]
        {
            assert_eq!(HostPort::parse(&text(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Option::<Secret>::parse(&text("hush")).unwrap().unwrap();
        assert_eq!(secret.reveal(), "hush");
        assert!(!format!("{secret:?} {:?}", secret.show()).contains("hush"));
    }
}
