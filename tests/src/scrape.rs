//! One scrape of `/metrics`, by series.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::http;

/// Labels of a series, with their values.
type Labels = BTreeMap<String, String>;

/// The values of one moment.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    series: BTreeMap<String, Vec<(Labels, f64)>>,
    text: String,
}

impl Scrape {
    /// Asks the admin listener on this port.
    pub async fn take(port: u16) -> Result<Self> {
        let (status, text) = http::get(port, "/metrics").await?;
        ensure!(status == 200, "/metrics answered {status}");
        Self::parse(text)
    }

    fn parse(text: String) -> Result<Self> {
        let mut series: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let value = value.parse().with_context(|| line.to_owned())?;
            series.entry(name.to_owned()).or_default().push((parse_labels(labels), value));
        }
        Ok(Self { series, text })
    }

    /// As it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sum of all series of this name that have these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matches = |has: &Labels| {
            labels.iter().all(|(label, value)| has.get(*label).is_some_and(|v| v == value))
        };
        let all = self.series.get(name).into_iter().flatten();
        all.filter(|(has, _)| matches(has)).map(|(_, value)| value).sum()
    }

    /// How much a sum grew since an earlier scrape.
    pub fn since(&self, earlier: &Self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels) - earlier.sum(name, labels)
    }
}

/// `a="b",c="d"}`. None of our label values holds a quotation mark or a comma.
fn parse_labels(text: &str) -> Labels {
    let pairs = text.trim_end_matches('}').split(',');
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    pairs.filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_name_and_labels() {
        let text = "# HELP a Help.\na{op=\"put\",outcome=\"ok\"} 3\na{op=\"get\",outcome=\"ok\"} 4\nb 0.5\n";
        let scrape = Scrape::parse(text.to_owned()).unwrap();
        assert_eq!(scrape.sum("a", &[]), 7.0);
        assert_eq!(scrape.sum("a", &[("op", "put")]), 3.0);
        assert_eq!(scrape.sum("a", &[("op", "put"), ("outcome", "error")]), 0.0);
        assert_eq!(scrape.sum("b", &[]), 0.5);
    }
}
