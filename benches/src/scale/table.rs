//! A Markdown table that is printed row by row: a long run shows what it has.

/// A table with its columns.
#[derive(Debug)]
pub struct Table(usize);

impl Table {
    /// Prints the head.
    pub fn begin(columns: &[&str]) -> Self {
        println!("\n| {} |", columns.join(" | "));
        println!("| {} |", vec!["---"; columns.len()].join(" | "));
        Self(columns.len())
    }

    /// Prints a row.
    pub fn row(&self, cells: &[String]) {
        debug_assert_eq!(cells.len(), self.0, "a cell per column");
        println!("| {} |", cells.join(" | "));
    }
}

/// A figure with one digit after the point.
pub fn one_digit(figure: f64) -> String {
    format!("{figure:.1}")
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> String {
    one_digit(bytes as f64 / f64::from(1 << 20))
}

/// Seconds as milliseconds.
pub fn ms(seconds: f64) -> String {
    one_digit(seconds * 1e3)
}
