//! Medians and ratios.

use std::collections::BTreeMap;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// MB/s, as clients see it.
    pub per_second: f64,
    /// MB per second of the server's processor time.
    pub per_cpu_second: f64,
}

/// All measurements: by case, then by server.
#[derive(Debug, Default)]
pub struct Report(BTreeMap<&'static str, BTreeMap<&'static str, Vec<Figure>>>);

impl Report {
    /// Adds a measurement.
    pub fn add(&mut self, case: &'static str, server: &'static str, figure: Figure) {
        self.0.entry(case).or_default().entry(server).or_default().push(figure);
    }

    /// A Markdown table of medians, with the range of the runs and Ottla's ratio to Kafka.
    pub fn table(&self, records: u64) -> String {
        let mut text = format!(
            "{records} records of {} bytes, medians (least to most)\n\n\
             | Case | Unit | Kafka | Ottla | Ottla ÷ Kafka |\n| --- | --- | --- | --- | --- |\n",
            crate::RECORD_BYTES
        );
        for (case, servers) in &self.0 {
            for (unit, pick) in [
                ("MB/s", (|figure: &Figure| figure.per_second) as fn(&Figure) -> f64),
                ("MB per CPU second", |figure: &Figure| figure.per_cpu_second),
            ] {
                let of = |server: &str| -> Vec<f64> {
                    let mut all: Vec<f64> =
                        servers.get(server).into_iter().flatten().map(pick).collect();
                    all.sort_by(f64::total_cmp);
                    all
                };
                let (kafka, ottla) = (of("Kafka"), of("Ottla"));
                text.push_str(&format!(
                    "| {case} | {unit} | {} | {} | {:.2} |\n",
                    shown(&kafka),
                    shown(&ottla),
                    median(&ottla) / median(&kafka)
                ));
            }
        }
        text
    }
}

fn shown(sorted: &[f64]) -> String {
    let (least, most) = (sorted.first(), sorted.last());
    format!(
        "{:.0} ({:.0} to {:.0})",
        median(sorted),
        least.copied().unwrap_or(f64::NAN),
        most.copied().unwrap_or(f64::NAN)
    )
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
