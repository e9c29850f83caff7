use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::packing::{CODECS, compress};

fn decompress(codec: Compression, body: &[u8]) -> Result<Vec<u8>, DecompressError> {
    to_cap(codec, body, limits::decompressed_bytes_max(body.len()))
}

fn to_cap(codec: Compression, body: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
    let limits = OutputLimits { bytes_max: cap, ..OutputLimits::full(body.len()) };
    let mut output = Vec::new();
    match plain(codec, body, limits, &mut Scratch::default())?.read_to_end(&mut output) {
        Ok(_) => Ok(output),
        Err(error) => Err(*error.into_inner().unwrap().downcast().unwrap()),
    }
}

fn xerial(plain: &[u8], block: usize) -> Vec<u8> {
    let mut out = XERIAL_MAGIC.to_vec();
    out.extend([0, 0, 0, 1, 0, 0, 0, 1]);
    for part in plain.chunks(block) {
        let part = compress(Compression::Snappy, part);
        out.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        out.extend(part);
    }
    out
}

#[test]
fn every_codec_gives_back_what_went_in() {
    let plain: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
    for codec in CODECS {
        for plain in [&plain[..], b"", b"x"] {
            let packed = compress(codec, plain);
            assert_eq!(decompress(codec, &packed).as_deref(), Ok(plain), "{codec:?}");
        }
    }
}

#[test]
fn what_is_used_again_keeps_nothing_of_what_was_there_before() {
    let mut scratch = Scratch::default();
    let good = compress(Compression::Zstd, &[7; 100_000]);
    let mut large = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    large.window_log(limits::ZSTD_SMALL_WINDOW_LOG_MAX + 1).unwrap();
    large.write_all(&[7; 100_000]).unwrap();
    let large = large.finish().unwrap();
    let mut opened = |body: &[u8], limits| {
        let stream = plain(Compression::Zstd, body, limits, &mut scratch);
        stream.unwrap().read_to_end(&mut Vec::new()).ok()
    };
    let full = OutputLimits::full(good.len());
    assert_eq!(opened(&large, full), Some(100_000));
    assert_eq!(opened(&large, OutputLimits::SMALL), None, "a window beyond the small ones");
    assert_eq!(opened(&good[..good.len() / 2], full), None);
    assert_eq!(opened(&good, OutputLimits::SMALL), Some(100_000));
}

#[test]
fn snappy_java_blocks_are_joined() {
    let plain: Vec<u8> = (0..50_000u32).flat_map(|i| (i % 251).to_le_bytes()).collect();
    let packed = xerial(&plain, 32 * 1024);
    assert_eq!(decompress(Compression::Snappy, &packed), Ok(plain));
    for cut in [packed.len() - 1, 17, 18, 19, 12] {
        assert!(decompress(Compression::Snappy, &packed[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn the_callers_cap_holds_to_the_byte() {
    for codec in CODECS {
        let packed = compress(codec, &[7; 5_000]);
        assert_eq!(to_cap(codec, &packed, 5_000).map(|v| v.len()), Ok(5_000), "{codec:?}");
        assert_eq!(to_cap(codec, &packed, 4_999), Err(DecompressError::TooLarge(4_999)));
    }
}

#[test]
fn bombs_stop_at_the_ratio() {
    let plain = vec![0; 128 << 20];
    let packed = compress(Compression::Zstd, &plain);
    let cap = limits::decompressed_bytes_max(packed.len());
    assert!(cap < plain.len(), "zstd makes a bomb");
    assert_eq!(decompress(Compression::Zstd, &packed), Err(DecompressError::TooLarge(cap)));
}

#[test]
fn a_constant_payload_as_large_as_a_request_is_no_bomb() {
    let plain = vec![0; 64 << 20];
    for codec in [Compression::Gzip, Compression::Zstd] {
        let packed = compress(codec, &plain);
        assert!(packed.len() < 1 << 20, "Kafka takes it: {} bytes", packed.len());
        assert_eq!(decompress(codec, &packed).map(|v| v.len()), Ok(plain.len()), "{codec:?}");
    }
}

#[test]
fn what_is_not_asked_for_is_not_decompressed() {
    // The end of each is missing: whoever reads on finds out.
    let plain: Vec<u8> = (0..4_000_000u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
    let streams = [
        (Compression::Gzip, compress(Compression::Gzip, &plain)),
        (Compression::Lz4, compress(Compression::Lz4, &plain)),
        (Compression::Zstd, compress(Compression::Zstd, &plain)),
        (Compression::Snappy, xerial(&plain, 32 * 1024)),
    ];
    for (codec, mut packed) in streams {
        packed.truncate(packed.len() - 20);
        let limits = OutputLimits::full(packed.len());
        let mut scratch = Scratch::default();
        let mut stream = super::plain(codec, &packed[..], limits, &mut scratch).unwrap();
        let mut first = [0; 1_000];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, plain[..1_000], "{codec:?}");
        let rest = stream.read_to_end(&mut Vec::new());
        assert!(rest.is_err(), "{codec:?}");
    }
}

#[test]
fn claimed_lengths_reserve_nothing() {
    // A raw snappy block that claims 4 GiB, and one that claims 7 MiB in six bytes.
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    assert!(decompress(Compression::Snappy, &huge).is_err());
    let large = [0x80, 0x80, 0xc0, 0x03, 0, 0];
    assert!(matches!(
        decompress(Compression::Snappy, &large),
        Err(DecompressError::Malformed { .. })
    ));
}

proptest! {
    #[test]
    fn random_bytes_are_an_error_or_small(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for codec in CODECS {
            if let Ok(output) = decompress(codec, &bytes) {
                prop_assert!(output.len() <= limits::decompressed_bytes_max(bytes.len()));
            }
        }
    }

    #[test]
    fn damaged_frames_never_panic(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let plain: Vec<u8> = (0..2_000u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
        for codec in CODECS {
            let mut packed = compress(codec, &plain);
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
            let _ = decompress(codec, &packed);
            packed.truncate(at);
            let _ = decompress(codec, &packed);
        }
        let mut packed = xerial(&plain, 1_000);
        let at = at.index(packed.len());
        packed[at] ^= 1 << bit;
        let _ = decompress(Compression::Snappy, &packed);
    }
}

#[test]
fn a_second_gzip_member_is_refused_as_librdkafka_reads_only_the_first() {
    let first = compress(Compression::Gzip, b"records");
    let both = [&first[..], &compress(Compression::Gzip, b"more")].concat();
    assert_eq!(decompress(Compression::Gzip, &first).unwrap(), b"records");
    assert!(decompress(Compression::Gzip, &both).is_err());
    assert!(decompress(Compression::Gzip, &[&first[..], &[0]].concat()).is_err());
}
