//! What a server did while a load ran.

use anyhow::Result;
use ottla_tests::ottla::Ottla;
use ottla_tests::scrape::Scrape;
use tokio::time::Instant;

/// The state of a server when the load began.
pub struct Watch {
    begin: Instant,
    scrape: Scrape,
    cpu_seconds: f64,
}

/// What was seen until the load's end.
pub struct Seen {
    /// Objects written.
    pub puts_per_second: f64,
    /// Bytes of a written object, as a mean.
    pub bytes_per_put: f64,
    /// Ranges read from the store.
    pub gets_per_second: f64,
    /// Of one processor, 100 is one processor busy.
    pub cpu_percent: f64,
    /// Resident memory at the end.
    pub resident_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// The metrics at the begin.
    pub before: Scrape,
    /// The metrics at the end.
    pub scrape: Scrape,
}

impl Seen {
    /// A quantile of a histogram's growth, in milliseconds.
    pub fn quantile_ms(&self, name: &str, labels: &[(&str, &str)], q: f64) -> f64 {
        1e3 * self.scrape.quantile_since(&self.before, name, labels, q)
    }
}

impl Watch {
    /// Takes note of everything.
    pub async fn begin(server: &mut Ottla) -> Result<Self> {
        let (scrape, cpu_seconds) = (server.scrape().await?, server.process()?.cpu_seconds()?);
        Ok(Self { begin: Instant::now(), scrape, cpu_seconds })
    }

    /// What happened since.
    pub async fn end(self, server: &mut Ottla) -> Result<Seen> {
        let seconds = self.begin.elapsed().as_secs_f64();
        let cpu_seconds = server.process()?.cpu_seconds()? - self.cpu_seconds;
        let resident_bytes = server.process()?.resident_bytes()?;
        let scrape = server.scrape().await?;
        let requests = |labels: &[(&str, &str)]| {
            scrape.since(&self.scrape, "ottla_objectstore_requests_total", labels)
        };
        let puts = requests(&[("op", "put"), ("cause", "wal")]);
        let gets = requests(&[("op", "get")]);
        let written = [("dir", "out"), ("cause", "wal")];
        let written = scrape.since(&self.scrape, "ottla_objectstore_bytes_total", &written);
        Ok(Seen {
            puts_per_second: puts / seconds,
            bytes_per_put: written / puts.max(1.0),
            gets_per_second: gets / seconds,
            cpu_percent: cpu_seconds / seconds * 100.0,
            resident_bytes,
            seconds,
            before: self.scrape,
            scrape,
        })
    }
}
