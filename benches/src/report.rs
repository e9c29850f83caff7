//! Medians, ratios, and whether a target was met.

use crate::side::Side;
use crate::targets::{Measure, Target};

/// All figures, in the order in which their measures came first.
#[derive(Debug, Default)]
pub struct Report(Vec<Row>);

#[derive(Debug)]
struct Row {
    measure: Measure,
    kafka: Vec<f64>,
    ottla: Vec<f64>,
}

impl Report {
    /// Adds a figure.
    pub fn add(&mut self, measure: Measure, side: Side, figure: f64) {
        let same = |row: &Row| (row.measure.name, row.measure.unit) == (measure.name, measure.unit);
        let at = self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push(Row { measure, kafka: Vec::new(), ottla: Vec::new() });
            self.0.len() - 1
        });
        let row = &mut self.0[at];
        let figures = if side == Side::Kafka { &mut row.kafka } else { &mut row.ottla };
        figures.push(figure);
        figures.sort_by(f64::total_cmp);
        println!("  {}: {} {} {}", side.name(), measure.name, shown(figure), measure.unit);
    }

    /// A Markdown table of medians, with the range of the runs.
    pub fn table(&self, runs: u64) -> String {
        let mut text = format!(
            "Medians of {runs} runs (least to most); records of {} bytes.\n\n\
             | Measure | Unit | Kafka | Ottla | Ottla ÷ Kafka | Target | |\n\
             | --- | --- | --- | --- | --- | --- | --- |\n",
            ottla_benches::produce::RECORD_BYTES
        );
        for row in &self.0 {
            let Measure { name, unit, target } = row.measure;
            let ratio = median(&row.ottla).zip(median(&row.kafka)).map(|(o, k)| o / k);
            let (wanted, met) = match target {
                Target::TimesKafka(times) => {
                    (format!("≥ {times} × Kafka"), ratio.map(|ratio| ratio >= times))
                }
                Target::AtLeast(least) => {
                    (format!("≥ {}", shown(least)), median(&row.ottla).map(|m| m >= least))
                }
                Target::AtMost(most) => {
                    (format!("≤ {}", shown(most)), median(&row.ottla).map(|m| m <= most))
                }
                Target::None => (String::new(), None),
            };
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let met = met.map_or("", |met| if met { "met" } else { "**missed**" });
            let (kafka, ottla) = (spread(&row.kafka), spread(&row.ottla));
            text.push_str(&format!(
                "| {name} | {unit} | {kafka} | {ottla} | {ratio} | {wanted} | {met} |\n"
            ));
        }
        text
    }
}

fn spread(sorted: &[f64]) -> String {
    match (median(sorted), sorted) {
        (Some(median), [least, .., most]) => {
            format!("{} ({} to {})", shown(median), shown(*least), shown(*most))
        }
        (Some(median), _) => shown(median),
        (None, _) => String::new(),
    }
}

/// Three digits, thousands apart.
fn shown(figure: f64) -> String {
    let digits = match figure.abs() {
        below if below < 10.0 => 2,
        below if below < 100.0 => 1,
        _ => 0,
    };
    let plain = format!("{figure:.digits$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

fn median(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_thousands_apart() {
        for (figure, text) in
            [(0.0712, "0.07"), (12.34, "12.3"), (842.4, "842"), (2_134_567.0, "2,134,567")]
        {
            assert_eq!(shown(figure), text);
        }
    }

    #[test]
    fn a_ratio_below_its_target_is_missed() {
        let mut report = Report::default();
        let measure = Measure { name: "a", unit: "MB/s", target: Target::TimesKafka(2.0) };
        report.add(measure, Side::Kafka, 10.0);
        report.add(measure, Side::Ottla, 19.0);
        assert!(report.table(1).contains("| 10.0 | 19.0 | 1.90 | ≥ 2 × Kafka | **missed** |"));
        report.add(measure, Side::Ottla, 21.0);
        assert!(report.table(1).contains("| 21.0 (19.0 to 21.0) | 2.10 | ≥ 2 × Kafka | met |"));
    }
}
