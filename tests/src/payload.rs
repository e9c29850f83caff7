//! Record values that tell where they belong and whether all of their bytes are there.
//!
//! A value is `<id> <length> <padding>`: the id says who wrote it, to which topic and as what; the
//! padding is `length` letters that follow from the id. So a history holds ids only, and whoever
//! reads a value can still check its every byte.

use crate::records::text;

/// The value of a record with this id and this much padding.
pub fn value(id: &str, padding: usize) -> String {
    debug_assert!(!id.contains(' '), "the id ends at the first space");
    format!("{id} {padding} {}", text(seed_of(id), padding as u64))
}

/// The id of a value, if every byte is what the id says.
pub fn id_of_whole(value: &str) -> Option<&str> {
    let mut parts = value.splitn(3, ' ');
    let (id, length, padding) = (parts.next()?, parts.next()?, parts.next()?);
    let length: usize = length.parse().ok()?;
    (padding.len() == length && padding == text(seed_of(id), length as u64)).then_some(id)
}

/// The id of a value, whatever follows it.
pub fn id(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}

/// FNV-1a: the same in every run and on every machine.
fn seed_of(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_proves_that_it_is_whole() {
        let made = value("topic/1/2/0/3", 40);
        assert_eq!(id(&made), "topic/1/2/0/3");
        assert_eq!(id_of_whole(&made), Some("topic/1/2/0/3"));
        assert_eq!(id_of_whole(&made[..made.len() - 1]), None, "cut short");
        assert_eq!(id_of_whole(&made.replacen("topic", "topik", 1)), None, "another id");
        assert_eq!(id_of_whole(""), None);
    }
}
