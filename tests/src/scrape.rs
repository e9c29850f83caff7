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

    /// The value that this share of a histogram's observations since an earlier scrape stayed below;
    /// those within a bucket count as spread evenly. Not a number when there were none.
    pub fn quantile_since(
        &self,
        earlier: &Self,
        name: &str,
        labels: &[(&str, &str)],
        share: f64,
    ) -> f64 {
        let name = format!("{name}_bucket");
        let mut bounds: Vec<(f64, &str)> = self
            .series
            .get(&name)
            .into_iter()
            .flatten()
            .filter_map(|(has, _)| has.get("le"))
            .filter_map(|le| Some((le.replace("+Inf", "inf").parse().ok()?, le.as_str())))
            .collect();
        bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        bounds.dedup();
        let below = |le| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", le)]).collect();
            self.since(earlier, &name, &labels)
        };
        let wanted = bounds.last().map_or(f64::NAN, |(_, le)| below(le)) * share;
        let (mut from, mut counted) = (0.0, 0.0);
        for (bound, le) in bounds {
            let count = below(le);
            if count >= wanted && count > counted {
                return from + (bound - from) * (wanted - counted) / (count - counted);
            }
            (from, counted) = (bound, count);
        }
        f64::NAN
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

    #[test]
    fn quantiles_lie_between_the_bounds_of_their_bucket() {
        let scrape = |one, two, all| {
            let text = format!(
                "h_bucket{{le=\"1\",s=\"a\"}} {one}\nh_bucket{{le=\"2\",s=\"a\"}} {two}\n\
                 h_bucket{{le=\"+Inf\",s=\"a\"}} {all}\nh_bucket{{le=\"1\",s=\"b\"}} 99\n"
            );
            Scrape::parse(text).unwrap()
        };
        let (before, after) = (scrape(5, 5, 5), scrape(5, 25, 25));
        assert_eq!(after.quantile_since(&before, "h", &[("s", "a")], 0.5), 1.5);
        assert_eq!(after.quantile_since(&before, "h", &[("s", "a")], 1.0), 2.0);
        assert!(after.quantile_since(&after, "h", &[("s", "a")], 0.5).is_nan());
    }
}
