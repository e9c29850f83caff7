//! How a group of metrics is written down: one entry says everything about a metric.

use prometheus::Registry;

/// What is known of a metric without measuring anything.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricInfo {
    /// Full name, prefix included.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// One sentence or more, on one line.
    pub help: String,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Upper bounds of its buckets, ascending; of histograms only.
    pub buckets: &'static [f64],
}

impl MetricInfo {
    /// What its values count, as its name says: seconds, bytes, a ratio, or things.
    pub fn unit(&self) -> &'static str {
        let name = self.name.trim_end_matches("_total");
        let units = [("_seconds", "seconds"), ("_bytes", "bytes"), ("_ratio", "ratio")];
        units.iter().find(|(ending, _)| name.ends_with(ending)).map_or("", |(_, unit)| unit)
    }
}

/// One entry of a group.
pub(super) struct Definition {
    pub name: &'static str,
    /// The doc comment, a space before each of its lines.
    pub doc: &'static str,
    pub labels: &'static [&'static str],
    /// Upper bounds; of histograms only.
    pub buckets: &'static [f64],
}

impl Definition {
    pub fn help(&self) -> String {
        self.doc.trim().to_owned()
    }

    pub fn info(&self, kind: &'static str) -> MetricInfo {
        MetricInfo {
            name: self.name,
            kind,
            help: self.help(),
            labels: self.labels,
            buckets: self.buckets,
        }
    }
}

/// A handle that can be made from a definition.
pub(super) trait Metric: Sized {
    /// The Prometheus type.
    const KIND: &'static str;

    /// Makes the handle and adds it to the registry.
    ///
    /// # Panics
    /// When the definition is illegal or its name is taken. Definitions are constants and a test
    /// registers them all, so this is never seen outside of tests.
    fn register(registry: &Registry, definition: &Definition) -> Self;
}

/// Writes a group: a struct of public handles, `register` and `inventory`.
///
/// ```text
/// group! {
///     /// What the group is about.
///     pub struct ExampleMetrics {
///         /// Help text, shown to operators.
///         done: CounterVec<1> = "ottla_example_done_total", labels ["outcome"];
///         /// Help text of a histogram.
///         seconds: Histogram = "ottla_example_seconds", buckets buckets::STORE_SECONDS;
///     }
/// }
/// ```
macro_rules! group {
    (
        $(#[$meta:meta])*
        pub struct $group:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $kind:ty = $name:literal
                    $(, labels [$($label:literal),+])?
                    $(, buckets $buckets:expr)?;
            )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $group {
            $($(#[doc = $doc])+ pub $field: $kind,)+
        }

        impl $group {
            pub(super) fn register(registry: &prometheus::Registry) -> Self {
                use $crate::metrics::define::{Definition, Metric};
                Self {
                    $($field: <$kind as Metric>::register(registry, &Definition {
                        name: $name,
                        doc: concat!($($doc),+),
                        labels: &[$($($label),+)?],
                        buckets: { let none: &[f64] = &[]; $(let none: &[f64] = { let _ = none; $buckets };)? none },
                    }),)+
                }
            }

            pub(super) fn inventory() -> Vec<$crate::metrics::MetricInfo> {
                use $crate::metrics::define::{Definition, Metric};
                vec![$(Definition {
                    name: $name,
                    doc: concat!($($doc),+),
                    labels: &[$($($label),+)?],
                    buckets: { let none: &[f64] = &[]; $(let none: &[f64] = { let _ = none; $buckets };)? none },
                }.info(<$kind as Metric>::KIND),)+]
            }
        }
    };
}

pub(super) use group;
