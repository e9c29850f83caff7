//! Rendezvous hashing: of all brokers, the one with the highest weight for a thing has it. Every
//! broker finds the same one without asking, and one that comes or goes moves only its own share.

use ottla_model::BrokerId;

/// The weight of `broker` for the thing with these bytes: FNV-1a over both, mixed (by the finaliser
/// of MurmurHash3), because neighbouring broker ids have to get unrelated weights. Stored nowhere,
/// but all brokers of a cluster must agree on it.
pub(crate) fn weight(thing: impl Iterator<Item = u8>, broker: BrokerId) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = thing
        .chain(broker.0.to_be_bytes())
        .fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
