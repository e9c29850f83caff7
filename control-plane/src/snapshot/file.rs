//! One snapshot file as a stream: written, verified, loaded.

use std::io;
use std::sync::Arc;

use ottla_format::codec::DecodeError;
use ottla_format::snapshot::{
    SNAPSHOT_BLOCK_BYTES, SNAPSHOT_BLOCK_BYTES_MAX, SNAPSHOT_BLOCK_HEADER_BYTES,
    SNAPSHOT_HEADER_BYTES, SNAPSHOT_META_BYTES_MAX, SnapshotBlock, SnapshotHeader, SnapshotPart,
    SnapshotTotals, put_record,
};
use ottla_format::state::StateRecord;
use ottla_model::ClusterId;

use super::{SnapshotError, SnapshotInfo};
use crate::raft_log::{LogDirectory, LogFile};
use crate::state::{LoadError, RecordDigest, State, StateIdentity, StateLoader};

/// Writes and syncs a file that does not exist yet.
pub(super) fn write(
    directory: &dyn LogDirectory,
    name: &str,
    state: &State,
    meta: &[u8],
) -> Result<(), SnapshotError> {
    let described = directory.describe(name);
    let too_large =
        |what, length| SnapshotError::TooLarge { file: described.clone(), what, length };
    if meta.len() > SNAPSHOT_META_BYTES_MAX {
        return Err(too_large("meta", meta.len()));
    }
    let file = directory.create(name).map_err(io_error(&described))?;
    let mut out = Writer { file, position: 0, crc: 0, totals: SnapshotTotals::default() };

    let StateIdentity { cluster, applied, digest } = state.identity();
    let header = SnapshotHeader::new(cluster, applied, (digest, state.feature_level()), meta);
    out.put(&header.encode()).map_err(io_error(&described))?;
    out.put(meta).map_err(io_error(&described))?;

    let mut payload = Vec::with_capacity(SNAPSHOT_BLOCK_BYTES);
    let mut records = 0;
    for (key, value) in state.records() {
        put_record(&mut payload, &key, &value);
        records += 1;
        if payload.len() > SNAPSHOT_BLOCK_BYTES_MAX {
            return Err(too_large("a record", key.len() + value.len()));
        }
        if payload.len() >= SNAPSHOT_BLOCK_BYTES {
            out.block(&payload, records).map_err(io_error(&described))?;
            payload.clear();
            records = 0;
        }
    }
    if !payload.is_empty() {
        out.block(&payload, records).map_err(io_error(&described))?;
    }
    out.finish().map_err(io_error(&described))
}

struct Writer {
    file: Arc<dyn LogFile>,
    position: u64,
    /// Of everything written so far.
    crc: u32,
    totals: SnapshotTotals,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(())
    }

    fn block(&mut self, payload: &[u8], records: u32) -> io::Result<()> {
        self.totals.blocks += 1;
        self.totals.records += u64::from(records);
        self.put(&SnapshotPart::Block(SnapshotBlock::new(payload, records)).encode())?;
        self.put(payload)
    }

    fn finish(mut self) -> io::Result<()> {
        self.put(&SnapshotPart::Footer { file_crc: self.crc }.encode())?;
        self.put(&self.totals.encode())?;
        self.file.sync()
    }
}

/// Reads a file back without keeping it: every checksum, the counts, and the digest that its
/// records have.
pub(super) fn verify(
    directory: &dyn LogDirectory,
    name: &str,
    cluster: ClusterId,
) -> Result<SnapshotInfo, SnapshotError> {
    let mut digest = RecordDigest::default();
    let info = read(directory, name, cluster, |_, record| {
        digest.add(&record);
        Ok(())
    })?;
    let (stored, computed) = (info.identity.digest, digest.sum());
    if stored != computed {
        let file = directory.describe(name);
        return Err(SnapshotError::Load { file, source: LoadError::Digest { stored, computed } });
    }
    Ok(info)
}

/// Reads a file and builds its state.
pub(super) fn load(
    directory: &dyn LogDirectory,
    name: &str,
    cluster: ClusterId,
) -> Result<(SnapshotInfo, State), SnapshotError> {
    let mut loader: Option<StateLoader> = None;
    let info = read(directory, name, cluster, |identity, record| {
        loader.get_or_insert_with(|| StateLoader::new(identity)).load(record)
    })?;
    let loader = loader.unwrap_or_else(|| StateLoader::new(info.identity));
    let file = directory.describe(name);
    let state = loader.finish().map_err(|source| SnapshotError::Load { file, source })?;
    Ok((info, state))
}

/// Reads a file from end to end, verifies its checksums and counts, and gives each record away.
fn read(
    directory: &dyn LogDirectory,
    name: &str,
    cluster: ClusterId,
    mut each: impl FnMut(StateIdentity, StateRecord) -> Result<(), LoadError>,
) -> Result<SnapshotInfo, SnapshotError> {
    let described = directory.describe(name);
    let damaged = |source: DecodeError| {
        let file = described.clone();
        match source {
            source if source.is_of_another_version() => {
                SnapshotError::OtherVersion { file, source }
            }
            _ => SnapshotError::Damaged { file, source },
        }
    };
    let load = |source| SnapshotError::Load { file: described.clone(), source };

    let file = directory.open(name).map_err(io_error(&described))?;
    let mut input = Input { file, position: 0, crc: 0, described: &described };
    let header = SnapshotHeader::decode(&input.take::<SNAPSHOT_HEADER_BYTES>()?);
    let header = header.map_err(damaged)?;
    if header.cluster != cluster {
        return Err(SnapshotError::ForeignCluster {
            file: described.clone(),
            found: header.cluster,
            expected: cluster,
        });
    }
    let meta = input.take_vec(header.meta_length())?;
    header.check_meta(&meta).map_err(damaged)?;
    let SnapshotHeader { software, applied, digest, .. } = header;
    let identity = StateIdentity { cluster, applied, digest };

    let mut totals = SnapshotTotals::default();
    loop {
        let crc_so_far = input.crc;
        let part = input.take::<SNAPSHOT_BLOCK_HEADER_BYTES>()?;
        let block = match SnapshotPart::decode(&part).map_err(damaged)? {
            SnapshotPart::Block(block) => block,
            SnapshotPart::Footer { file_crc } => {
                let stored = SnapshotTotals::decode(&input.take()?).map_err(damaged)?;
                if (file_crc, stored) != (crc_so_far, totals) {
                    return Err(damaged(DecodeError::BadChecksum {
                        what: "snapshot",
                        stored: file_crc,
                        computed: crc_so_far,
                    }));
                }
                let length = input.position;
                return Ok(SnapshotInfo { name: name.to_owned(), identity, meta, length });
            }
        };
        let payload = input.take_vec(block.payload_length())?;
        for (key, value) in block.records(&payload).map_err(damaged)? {
            let record = StateRecord::decode(key, value)
                .map_err(|error| damaged(error.written_by(software)))?;
            each(identity, record).map_err(load)?;
        }
        totals.blocks += 1;
        totals.records += u64::from(block.record_count());
    }
}

struct Input<'a> {
    file: Arc<dyn LogFile>,
    position: u64,
    /// Of everything read so far.
    crc: u32,
    described: &'a str,
}

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The length was verified by a checksum before.
    fn take_vec(&mut self, length: usize) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.file.read_at(bytes, self.position).map_err(io_error(self.described))?;
        self.position += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(())
    }
}

/// A file that ends too early is damaged like any other; the file system's own words say so.
fn io_error(described: &str) -> impl Fn(io::Error) -> SnapshotError + '_ {
    move |source| SnapshotError::Io { file: described.to_owned(), source }
}
