//! From a sealed buffer to the bytes of an object.
//!
//! Batches are sorted by partition; within one, arrival order stays. The payload is a list of
//! references to the bytes as they were received, between a header and a footer: no record is
//! copied, and none but a batch's first bytes is read.

use bytes::Bytes;
use ottla_format::object::{BatchSummary, ObjectEncoder, ObjectHeader};
use ottla_model::BytePosition;
use ottla_object_io::Payload;

use super::buffer::Body;

/// An object's bytes, and where each batch lies.
#[derive(Debug)]
pub(crate) struct Laid {
    pub payload: Payload,
    pub layout: Layout,
    /// How many partitions have a run in it.
    pub partitions: usize,
}

/// Where each batch of an object lies.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The batches by their index in arrival order, each with its position; ascending in position.
    pub order: Vec<(u32, BytePosition)>,
}

/// Lays out the batches of a buffer, given in arrival order.
pub(crate) fn lay_out(header: &ObjectHeader, bodies: &[Body]) -> Laid {
    let mut sorted: Vec<(u32, &Body)> = (0u32..).zip(bodies).collect();
    sorted.sort_by_key(|(_, body)| body.partition);

    let mut encoder = ObjectEncoder::new(header);
    let mut chunks = Vec::with_capacity(bodies.len() + 2);
    chunks.push(Bytes::new());
    let mut order = Vec::with_capacity(bodies.len());
    let mut partitions = 0;
    let mut previous = None;
    for (index, body) in sorted {
        let Body { partition, records, crc, producer, .. } = *body;
        let about = BatchSummary { records, crc, producer };
        order.push((index, encoder.push(partition, &body.bytes, about)));
        chunks.push(body.bytes.clone());
        partitions += usize::from(previous.replace(partition) != Some(partition));
    }
    let encoded = encoder.finish();
    if let Some(first) = chunks.first_mut() {
        *first = encoded.header;
    }
    chunks.push(encoded.tail);
    let payload = Payload { chunks, length: encoded.length, crc32c: encoded.crc32c };
    Laid { payload, layout: Layout { order }, partitions }
}

#[cfg(test)]
mod tests {
    use ottla_format::object::decode_object;
    use ottla_model::{ClusterId, PartitionId, PartitionIndex, TopicId};
    use ottla_test_kit::values::object_name;

    use super::*;

    fn body(partition: i32, fill: u8) -> Body {
        let bytes = Bytes::from(vec![fill; 61 + usize::from(fill)]);
        Body {
            partition: PartitionId { topic: TopicId(1), index: PartitionIndex(partition) },
            crc: crc32c::crc32c(&bytes[21..]),
            bytes,
            records: 1,
            producer: None,
            _reservation: None,
        }
    }

    #[test]
    fn runs_are_sorted_and_keep_arrival_order_within() {
        let bodies = [body(2, 1), body(0, 2), body(2, 3), body(1, 4), body(0, 5)];
        let header = ObjectHeader { cluster: ClusterId(1), origin: object_name(0).origin };
        let laid = lay_out(&header, &bodies);
        let indices: Vec<u32> = laid.layout.order.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, [1, 4, 3, 0, 2]);
        assert_eq!(laid.partitions, 3);

        let object: Vec<u8> = laid.payload.chunks.concat();
        assert_eq!(laid.payload.length, object.len() as u64);
        assert_eq!(laid.payload.crc32c, crc32c::crc32c(&object));
        for (index, position) in laid.layout.order {
            let batch = &bodies[index as usize].bytes;
            assert_eq!(&object[position.0 as usize..][..batch.len()], batch);
        }
        assert_eq!(decode_object(&object).unwrap().1.len(), 3);
        assert_eq!(laid.payload.chunks[1].as_ptr(), bodies[1].bytes.as_ptr(), "not copied");
    }
}
