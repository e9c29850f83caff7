//! Where a run of a broker is and what it runs: the same bytes in records and in the command that
//! registers the run.

use ottla_model::{Az, BrokerProfile, Endpoint, HostPort};

use crate::codec::{Reader, Result, put_text, put_varint};

/// The fewest bytes that an endpoint can take, for [`Reader::count`].
const ENDPOINT_BYTES_MIN: usize = 4;

/// Appends a profile.
///
/// ```text
/// profile    az text · list of endpoint · internal address · software text
/// endpoint   listener text · address
/// address    host text · port u16
/// ```
pub(crate) fn put_profile(out: &mut Vec<u8>, profile: &BrokerProfile) {
    let BrokerProfile { az, endpoints, internal, software } = profile;
    put_text(out, &az.0);
    put_varint(out, endpoints.len() as u64);
    for Endpoint { listener, address } in endpoints.iter() {
        put_text(out, listener);
        put_address(out, address);
    }
    put_address(out, internal);
    put_text(out, software);
}

pub(crate) fn read_profile(r: &mut Reader<'_>) -> Result<BrokerProfile> {
    let az = Az(r.text("availability zone")?.to_owned());
    let count = r.count(ENDPOINT_BYTES_MIN, "endpoint count")?;
    // An endpoint in memory is larger than the fewest bytes it can take: grow with what is read.
    let mut endpoints = Vec::new();
    for _ in 0..count {
        let listener = r.text("listener name")?.to_owned();
        endpoints.push(Endpoint { listener, address: read_address(r)? });
    }
    let internal = read_address(r)?;
    let software = r.text("software version")?.to_owned();
    Ok(BrokerProfile { az, endpoints: endpoints.into(), internal, software })
}

fn put_address(out: &mut Vec<u8>, address: &HostPort) {
    put_text(out, &address.host);
    out.extend_from_slice(&address.port.to_le_bytes());
}

fn read_address(r: &mut Reader<'_>) -> Result<HostPort> {
    Ok(HostPort { host: r.text("host")?.to_owned(), port: r.u16("port")? })
}
