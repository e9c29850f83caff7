//! The outline of an LZ4 frame, which the decoder does not hold to what consumers need.
//!
//! ```text
//! magic 4 │ flags 1 │ block size code 1 │ [content size 8] │ header checksum 1
//!         │ blocks: length 4 (bit 31: not compressed) │ data │ [checksum 4] … │ end mark: 0, 4
//!         │ [content checksum 4]
//! ```
//!
//! Kafka's Java clients read one frame, whose blocks do not refer to each other; librdkafka reads
//! none without an end mark. The decoder ends at a block that holds nothing, as at the end mark, and
//! leaves what follows unread; no client writes one.
//!
//! Source: the LZ4 frame format 1.6, Kafka's `Lz4BlockInputStream`.

const MAGIC: [u8; 4] = 0x184d_2204u32.to_le_bytes();
const VERSION_MASK: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const BLOCKS_INDEPENDENT: u8 = 0b0010_0000;
const BLOCK_CHECKSUMS: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
const CONTENT_CHECKSUM: u8 = 0b0000_0100;
const RESERVED: u8 = 0b0000_0011;
const NOT_COMPRESSED: u32 = 1 << 31;

/// What is wrong with the outline of a body that must be exactly one frame.
pub(crate) fn check(body: &[u8]) -> Result<(), &'static str> {
    const CUT: &str = "the LZ4 frame is cut short";
    let rest = body.strip_prefix(&MAGIC).ok_or("it is no LZ4 frame")?;
    let (flags, mut rest) = rest.split_first().ok_or(CUT)?;
    let is_set = |flag: u8| flags & flag != 0;
    if flags & VERSION_MASK != VERSION || is_set(RESERVED) {
        return Err("the LZ4 frame is of an unknown version");
    }
    if !is_set(BLOCKS_INDEPENDENT) {
        return Err("the blocks of the LZ4 frame depend on each other");
    }
    let size_and_checksum = if is_set(CONTENT_SIZE) { 1 + 8 + 1 } else { 1 + 1 };
    rest = rest.get(size_and_checksum..).ok_or(CUT)?;
    let block_checksum = if is_set(BLOCK_CHECKSUMS) { 4 } else { 0 };
    loop {
        let (length, blocks) = rest.split_first_chunk().ok_or(CUT)?;
        let word = u32::from_le_bytes(*length);
        if word == 0 {
            rest = blocks;
            break;
        }
        let length = (word & !NOT_COMPRESSED) as usize;
        // A compressed block that holds something has a token and at least one byte behind it.
        let length_min = if word & NOT_COMPRESSED == 0 { 2 } else { 1 };
        if length < length_min {
            return Err("a block of the LZ4 frame holds nothing");
        }
        rest = blocks.get(length + block_checksum..).ok_or(CUT)?;
    }
    let behind = if is_set(CONTENT_CHECKSUM) { 4 } else { 0 };
    if rest.len() < behind {
        return Err(CUT);
    }
    if rest.len() > behind {
        return Err("bytes follow the LZ4 frame");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    fn frame(info: FrameInfo) -> Vec<u8> {
        let mut out = FrameEncoder::with_frame_info(info, Vec::new());
        out.write_all(&[7; 200_000]).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn a_frame_of_independent_blocks_passes_whole_and_nothing_else() {
        let plain = FrameInfo::new();
        let full = FrameInfo::new()
            .block_checksums(true)
            .content_checksum(true)
            .content_size(Some(200_000));
        for whole in [frame(plain), frame(full)] {
            assert_eq!(check(&whole), Ok(()));
            for cut in 0..whole.len() {
                assert!(check(&whole[..cut]).is_err(), "{cut}");
            }
            assert!(check(&[&whole[..], &[0]].concat()).is_err());
            assert!(check(&[&whole[..], &whole].concat()).is_err());
        }
        assert!(check(&frame(FrameInfo::new().block_mode(BlockMode::Linked))).is_err());
    }

    #[test]
    fn a_block_that_holds_nothing_is_refused() {
        let whole = frame(FrameInfo::new());
        let (blocks, end_mark) = whole.split_last_chunk::<4>().unwrap();
        assert_eq!(end_mark, &[0; 4]);
        let with = |block: &[u8]| [blocks, block, &end_mark[..]].concat();
        assert_eq!(check(&with(&[1, 0, 0, 0x80, b'x'])), Ok(()));
        for nothing in [&[0, 0, 0, 0x80][..], &[1, 0, 0, 0, 0]] {
            assert!(check(&with(nothing)).is_err(), "{nothing:?}");
        }
        assert!(check(&[blocks, &[0, 0, 0, 0x80]].concat()).is_err(), "no end mark");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tail in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = check(&tail);
            let _ = check(&[&MAGIC[..], &[VERSION | BLOCKS_INDEPENDENT], &tail].concat());
        }
    }
}
