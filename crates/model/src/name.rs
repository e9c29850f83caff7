//! Names that clients choose: checked once, shared cheaply.

use std::fmt;
use std::sync::Arc;

/// The longest topic name, in bytes. Kafka's limit; it leaves room for `-<partition>` in a file
/// name of 255 bytes.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// A legal topic name: 1 to 249 of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a name was refused. The text is meant for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no character.
    #[error("the topic name is empty")]
    Empty,
    /// `.` and `..` are not usable as names.
    #[error("the topic name cannot be \".\" or \"..\"")]
    Dots,
    /// Too long; the field is its length in bytes.
    #[error("the topic name has {0} characters; at most 249 are allowed")]
    TooLong(usize),
    /// A character outside the legal set.
    #[error("the topic name contains {0:?}; allowed are ASCII letters, digits, '.', '_' and '-'")]
    IllegalCharacter(char),
}

impl TopicName {
    /// Checks `name` against Kafka's rules (`org.apache.kafka.common.internals.Topic`).
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name == "." || name == ".." {
            return Err(NameError::Dots);
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(c) = name.chars().find(|c| !legal(*c)) {
            return Err(NameError::IllegalCharacter(c));
        }
        if name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(NameError::TooLong(name.len()));
        }
        Ok(Self(name.into()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether another legal name would collide with this one where Kafka replaces `.` by `_`
    /// (metric names). Kafka refuses to create such a pair.
    pub fn collides_with(&self, other: &TopicName) -> bool {
        self.0.len() == other.0.len()
            && self.0.bytes().zip(other.0.bytes()).all(|(a, b)| {
                let fold = |c: u8| if c == b'.' { b'_' } else { c };
                fold(a) == fold(b)
            })
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A consumer group's id. Kafka allows any text, the empty one included (for offsets only).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub Arc<str>);

impl GroupId {
    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for GroupId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The short number that the replicated state gives a group when it comes to be. Entries that a
/// group has by the thousand are keyed by it and not by the id, which a client chooses. No number
/// is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u64);

impl fmt::Display for GroupNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        assert!(TopicName::new("orders.v1_eu-west").is_ok());
        assert_eq!(TopicName::new(""), Err(NameError::Empty));
        assert_eq!(TopicName::new(".."), Err(NameError::Dots));
        assert_eq!(TopicName::new("a b"), Err(NameError::IllegalCharacter(' ')));
        assert_eq!(TopicName::new("é"), Err(NameError::IllegalCharacter('é')));
        assert!(TopicName::new(&"a".repeat(249)).is_ok());
        assert_eq!(TopicName::new(&"a".repeat(250)), Err(NameError::TooLong(250)));
    }

    #[test]
    fn dot_and_underscore_collide() {
        let name = |n| TopicName::new(n).unwrap();
        assert!(name("a.b").collides_with(&name("a_b")));
        assert!(!name("a.b").collides_with(&name("a-b")));
    }
}
