//! Joining CRC-32C checksums without reading bytes twice.
//!
//! A CRC is a remainder of polynomials over GF(2). Appending `n` bytes to a message multiplies its
//! polynomial by x^(8n); so the checksum of two pieces together follows from the two checksums and
//! the second length: `crc(a ++ b) = crc(a) · x^(8·len(b)) mod P  ^  crc(b)`. Powers x^(2^k) are
//! constants; the product has one factor per one-bit of the length. That is some hundred
//! nanoseconds for a batch of any size, where squaring 32 × 32 matrices for each call (what the
//! `crc32c` crate's own function does) costs more than reading a batch of 64 KiB.

/// CRC-32C's polynomial (Castagnoli), bit-reversed: the highest bit is the coefficient of x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^0 in the bit-reversed representation.
const ONE: u32 = 1 << 31;

/// `POWERS[k]` is x^(8·2^k) mod P: what appending 2^k bytes multiplies by.
const POWERS: [u32; 64] = {
    let mut powers = [0; 64];
    let mut power = ONE >> 8; // x^8: one byte
    let mut k = 0;
    while k < 64 {
        powers[k] = power;
        power = multiply(power, power);
        k += 1;
    }
    powers
};

/// The product of two polynomials mod P.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut rest = a;
    while rest != 0 {
        if rest & ONE != 0 {
            product ^= b;
        }
        rest <<= 1;
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

/// The CRC-32C of two pieces one after the other, from their own checksums and the length of the
/// second in bytes.
pub fn crc32c_join(first: u32, second: u32, second_length: u64) -> u32 {
    let mut shifted = first;
    let mut rest = second_length;
    while rest != 0 {
        shifted = multiply(POWERS[rest.trailing_zeros() as usize], shifted);
        rest &= rest - 1;
    }
    shifted ^ second
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn joined_equals_computed_in_one_go(
            a in proptest::collection::vec(any::<u8>(), 0..300),
            b in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let joined = crc32c_join(crc32c::crc32c(&a), crc32c::crc32c(&b), b.len() as u64);
            let whole: Vec<u8> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(joined, crc32c::crc32c(&whole));
        }

        #[test]
        fn agrees_with_the_checksum_crate(a: u32, b: u32, length in 0usize..=(1 << 40)) {
            prop_assert_eq!(
                crc32c_join(a, b, length as u64),
                crc32c::crc32c_combine(a, b, length)
            );
        }
    }
}
