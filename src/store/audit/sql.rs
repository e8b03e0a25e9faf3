//! Text of statements on the log: everything from outside is bound, never written into it.

use sqlx::Sqlite;
use sqlx::sqlite::SqliteArguments;

/// A bound value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
}

/// The values of a statement that is being written.
#[derive(Debug, Clone, Default)]
pub(super) struct Bound(Vec<Value>);

impl Bound {
    /// Adds a value and gives its place in the text.
    pub(super) fn place(&mut self, value: Value) -> String {
        self.0.push(value);
        // A number, where `$1` would be a name to SQLite: with hundreds of values, looking names up takes long.
        format!("?{}", self.0.len())
    }

    pub(super) fn number(&mut self, number: i64) -> String {
        self.place(Value::Number(number))
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> &[Value] {
        &self.0
    }

    /// `query` with every value.
    pub(super) fn to<O>(
        self,
        mut query: sqlx::query::QueryAs<'_, Sqlite, O, SqliteArguments>,
    ) -> sqlx::query::QueryAs<'_, Sqlite, O, SqliteArguments>
    where
        O: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>,
    {
        for value in self.0 {
            query = match value {
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
            };
        }
        query
    }
}

/// Conditions on rows that are found by other means: written so that no index is taken for them, which would find
/// the rows in another order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions(Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// Any of these comparisons, each of a text and what is bound behind it.
    Any(Vec<(String, Value)>),
    /// Of an empty list.
    Never,
}

impl Conditions {
    fn any(&mut self, comparisons: Vec<(String, Value)>) {
        self.0.push(if comparisons.is_empty() { Condition::Never } else { Condition::Any(comparisons) });
    }

    pub(super) fn equal(&mut self, column: &str, value: Value) {
        self.any(vec![(equals(column), value)]);
    }

    pub(super) fn one_of(&mut self, column: &str, values: impl Iterator<Item = Value>) {
        self.any(values.map(|value| (equals(column), value)).collect());
    }

    pub(super) fn either(&mut self, one: &str, value: Value, other: &str, other_value: Value) {
        self.any(vec![(equals(one), value), (equals(other), other_value)]);
    }

    pub(super) fn like(&mut self, column: &str, patterns: impl Iterator<Item = String>) {
        self.any(patterns.map(|pattern| (format!("{column} LIKE"), Value::Text(pattern))).collect());
    }

    pub(super) fn compare(&mut self, comparison: &str, number: i64) {
        self.any(vec![(comparison.to_owned(), Value::Number(number))]);
    }

    /// The conditions as ` AND …`.
    pub(super) fn text(&self, bound: &mut Bound) -> String {
        let mut text = String::new();
        for condition in &self.0 {
            text.push_str(" AND ");
            match condition {
                Condition::Never => text.push_str("1 = 0"),
                Condition::Any(comparisons) => {
                    let any: Vec<_> = comparisons
                        .iter()
                        .map(|(comparison, value)| format!("{comparison} {}", bound.place(value.clone())))
                        .collect();
                    text.push_str(&format!("({})", any.join(" OR ")));
                }
            }
        }
        text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As `column =`, for which no index of the column is taken.
fn equals(column: &str) -> String {
    format!("{column} || '' =")
}
