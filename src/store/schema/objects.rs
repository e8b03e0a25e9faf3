//! The rows of `sqlite_schema`, and their comparison with what the migrations make.
//!
//! SQLite compares types and names without case and up to a NUL. So rows are compared with a list of what is
//! allowed, never with one of what is forbidden: a type is `table` or `index`, to the byte.

use std::collections::HashSet;
use std::fmt;

use sqlx::SqliteConnection;

use crate::store::StoreError;
use crate::values::excerpt::excerpt;

/// The table in which sqlx records the migrations. Its definition belongs to sqlx.
const OF_SQLX: &str = "_sqlx_migrations";

/// The beginning of the names of the indexes that SQLite makes for constraints. Only these have no definition.
const AUTOMATIC: &str = "sqlite_autoindex_";

/// A table or index.
#[derive(Debug)]
pub(super) struct Object {
    kind: &'static str,
    pub(super) name: String,
    /// The table that it belongs to.
    of: String,
    /// The first page of its b-tree.
    root: i64,
    /// `None` for an index that SQLite makes for a constraint: the table's definition determines it.
    definition: Option<String>,
}

/// An object of the schema that is not what carnet made.
#[derive(Debug)]
pub(super) struct ForeignObject {
    kind: &'static str,
    name: String,
    change: &'static str,
}

/// A row of `sqlite_schema`. Its columns may hold anything.
#[derive(sqlx::FromRow)]
struct Row {
    types: String,
    kind: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    of: Option<Vec<u8>>,
    root: Option<i64>,
    definition: Option<Vec<u8>>,
}

impl Object {
    pub(super) fn is_table(&self) -> bool {
        self.kind == "table"
    }

    fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name
    }

    /// Returns whether both are defined alike. SQLite puts a table's name into quotes when the table gets
    /// that name later, in its own definition and in those that refer to it.
    fn is_same(&self, other: &Self, tables: &[&str]) -> bool {
        let plain = |definition: &Option<String>| {
            definition.as_ref().map(|definition| {
                tables
                    .iter()
                    .fold(definition.clone(), |text, table| text.replace(&format!("\"{table}\""), table))
            })
        };
        self.is(other) && self.of == other.of && plain(&self.definition) == plain(&other.definition)
    }

    fn as_foreign(&self, change: &'static str) -> ForeignObject {
        ForeignObject { kind: self.kind, name: self.name.clone(), change }
    }
}

impl Row {
    /// Returns the table or index that the row defines.
    fn object(self) -> Result<Object, ForeignObject> {
        let Self { types, kind, name, of, root, definition } = self;
        let lossy = name.as_deref().map(|name| String::from_utf8_lossy(name).into_owned());
        let foreign = ForeignObject {
            kind: kind_of(kind.as_deref()),
            name: lossy.unwrap_or_default(),
            change: "was added",
        };
        let kind = match kind.as_deref() {
            Some(b"table") => "table",
            Some(b"index") => "index",
            _ => return Err(foreign),
        };
        let (Some(name), Some(of), Some(root)) = (name.and_then(text), of.and_then(text), root) else {
            return Err(foreign);
        };
        let definition = match (types.as_str(), definition) {
            ("text text text integer text", Some(definition)) => match text(definition) {
                Some(definition) if !definition.is_empty() => Some(definition),
                _ => return Err(foreign),
            },
            ("text text text integer null", None) if kind == "index" && name.starts_with(AUTOMATIC) => None,
            _ => return Err(foreign),
        };
        Ok(Object { kind, name, of, root, definition })
    }
}

/// Returns the bytes as a text, if they are one and SQLite reads all of it.
fn text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// Returns the type of an object as SQLite reads it.
fn kind_of(stored: Option<&[u8]>) -> &'static str {
    let read = stored.and_then(|stored| stored.split(|byte| *byte == 0).next()).unwrap_or_default();
    let kinds = ["table", "index", "trigger", "view"].into_iter();
    kinds.into_iter().find(|kind| read.eq_ignore_ascii_case(kind.as_bytes())).unwrap_or("object")
}

impl fmt::Display for ForeignObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {} {}", self.kind, excerpt(&self.name), self.change)
    }
}

/// Returns the objects of a database's schema, or the first row that defines neither a table nor an index.
pub(super) async fn objects(
    connection: &mut SqliteConnection,
) -> Result<Result<Vec<Object>, ForeignObject>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT typeof(type) || ' ' || typeof(name) || ' ' || typeof(tbl_name) || ' ' || typeof(rootpage) || ' ' || \
         typeof(sql) AS types, CAST(type AS BLOB) AS kind, CAST(name AS BLOB) AS name, CAST(tbl_name AS BLOB) AS of, \
         CAST(rootpage AS INTEGER) AS root, CAST(sql AS BLOB) AS definition FROM sqlite_schema ORDER BY rowid",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Row::object).collect())
}

/// Returns the first difference that could change what carnet's statements do.
pub(super) fn foreign(expected: &[Object], found: &[Object]) -> Option<ForeignObject> {
    let tables: Vec<&str> =
        expected.iter().filter(|object| object.is_table()).map(|object| object.name.as_str()).collect();
    let mut names = HashSet::new();
    for object in found {
        let is_own = expected.iter().any(|own| own.is(object));
        let has_own_name = expected.iter().any(|own| own.name.eq_ignore_ascii_case(&object.name));
        let is_own_index = object.kind == "index"
            && tables.iter().any(|table| table.eq_ignore_ascii_case(&object.of))
            && !(object.of == OF_SQLX && object.definition.is_none());
        let is_repeated = !names.insert(object.name.to_ascii_lowercase());
        if is_repeated || !is_own && (has_own_name || is_own_index) {
            return Some(object.as_foreign("was added"));
        }
    }
    for own in expected.iter().filter(|own| own.of != OF_SQLX || own.is_table()) {
        match found.iter().find(|object| object.is(own)) {
            None => return Some(own.as_foreign("is missing")),
            Some(object) if own.name != OF_SQLX && !object.is_same(own, &tables) => {
                return Some(own.as_foreign("was altered"));
            }
            Some(_) => {}
        }
    }
    let mut roots = HashSet::new();
    // The first page is that of the schema itself.
    let shares = |object: &&Object| object.root < 2 || !roots.insert(object.root);
    found.iter().find(shares).map(|object| object.as_foreign("has no pages of its own"))
}

/// Returns the first table that is not carnet's and references one of carnet's: its rows can refuse a
/// deletion.
pub(super) async fn reference(
    expected: &[Object],
    connection: &mut SqliteConnection,
) -> Result<Option<ForeignObject>, StoreError> {
    let references: Vec<(String, String)> = sqlx::query_as(
        "SELECT s.name, f.\"table\" FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f \
         WHERE s.type = 'table' ORDER BY s.rowid",
    )
    .fetch_all(connection)
    .await?;
    let is_own = |name: &str| {
        expected.iter().any(|object| object.is_table() && object.name.eq_ignore_ascii_case(name))
    };
    let found = references.into_iter().find(|(table, referenced)| !is_own(table) && is_own(referenced));
    Ok(found.map(|(name, _)| ForeignObject { kind: "table", name, change: "references a table of carnet's" }))
}
