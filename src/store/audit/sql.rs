//! The text of statements on the log. Every value from outside is bound, and never part of the text.

use sqlx::Sqlite;
use sqlx::sqlite::SqliteArguments;

/// A bound value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
}

/// The bound values of a statement while its text is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Bound(Vec<Value>);

impl Bound {
    /// Adds a value and returns its placeholder.
    pub(super) fn place(&mut self, value: Value) -> String {
        self.0.push(value);
        // Numbered, because SQLite treats `$1` as a name, and looking up hundreds of names takes long.
        format!("?{}", self.0.len())
    }

    pub(super) fn number(&mut self, number: i64) -> String {
        self.place(Value::Number(number))
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> &[Value] {
        &self.0
    }

    /// Binds every value to `query`.
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

/// Conditions on rows that other parts of the statement find. They are written so that SQLite uses no index
/// for them: an index would return the rows in another order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions(Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// Any of these comparisons. Each is a text, followed by the bound value.
    Any(Vec<(String, Value)>),
    /// The condition of an empty list, which no row meets.
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

    /// Returns the conditions as ` AND …`.
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

/// Returns `column =`, written so that SQLite uses no index on the column.
fn equals(column: &str) -> String {
    format!("{column} || '' =")
}
