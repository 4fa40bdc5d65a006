//! Configurations and results, side by side.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Display, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::journal::{self, JournalEntry};
use crate::{Error, Result, names};

/// A configuration and its result.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Row<C, S> {
    /// The configuration.
    pub config: C,
    /// What the closure returned, or what went wrong.
    pub result: Result<S, String>,
    /// Seconds that the run took.
    pub seconds: f64,
}

/// The columns that belong neither to the configuration nor to the result.
const OWN: [&str; 2] = ["seconds", "error"];

/// The order of sorted rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The smallest value first, as for a loss.
    Ascending,
    /// The largest value first, as for an accuracy.
    Descending,
}

/// The results of a study: a row for each configuration, in the order given until sorted.
///
/// A column is a field of the configuration or of the result; a field within a field is named `outer.inner`. A
/// configuration or result that is not an object has the column `config` or `score`. The columns `seconds` and, where a
/// run failed, `error` come last. A field whose name is taken is called `result.name` or `config.name`.
///
/// # Examples
/// ```
/// use bptt::tune::{Order, Study};
///
/// let mut table = Study::new().run(["x", "abc"], |word| Ok::<_, bptt::Error>(word.len()))?;
/// table.sort_by("score", Order::Descending)?;
/// assert_eq!(table.rows()[0].config, "abc");
/// assert!(table.to_csv().starts_with("config,score,seconds\nabc,3,"));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Table<C, S> {
    rows: Vec<Row<C, S>>,
    unreadable: Vec<String>,
}

impl<C, S> Table<C, S> {
    pub(super) fn new(rows: Vec<Row<C, S>>, unreadable: Vec<String>) -> Self {
        Self { rows, unreadable }
    }

    /// What is wrong with the lines of the study's file that could not be read, by file and line. The runs in them were
    /// repeated if they were among the configurations.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// The rows.
    pub fn rows(&self) -> &[Row<C, S>] {
        &self.rows
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl<C: DeserializeOwned, S: DeserializeOwned> Table<C, S> {
    /// The runs in the files of some studies, in the order of files and lines, without running anything. Of several runs of a
    /// configuration, the last one counts. The files are only read, and may be those of studies that are running.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), or [`Error::File`] naming the first file that is not a study's, or that has a run of
    /// another form.
    ///
    /// # Examples
    /// ```
    /// use bptt::tune::{Study, Table};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("1.jsonl");
    ///
    /// Study::new().file(&path).workers(1).shard(1, 2).run(0..5, |n: &u64| Ok::<_, bptt::Error>(n * n))?;
    /// let table: Table<u64, u64> = Table::read([&path])?;
    /// assert_eq!(table.results()?, [(&0, &0), (&2, &4), (&4, &16)]);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn read(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
        let mut places = HashMap::new();
        for path in paths {
            let path = path.as_ref();
            let mut kept = journal::read_all([path])?;
            unreadable.append(&mut kept.unreadable);
            for JournalEntry { config, result, seconds } in kept.into_entries() {
                let bad = |e| Error::file(path, format!("found a run of another form: {config}: {e}"));
                let row = Row {
                    config: C::deserialize(&config).map_err(bad)?,
                    result: Ok(S::deserialize(&result).map_err(bad)?),
                    seconds,
                };
                match places.entry(journal::key(&config)) {
                    Entry::Vacant(place) => {
                        place.insert(rows.len());
                        rows.push(row);
                    }
                    Entry::Occupied(place) => rows[*place.get()] = row,
                }
            }
        }
        Ok(Self::new(rows, unreadable))
    }
}

impl<C: Serialize, S: Serialize> Table<C, S> {
    /// The configurations and results, if no run failed.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first configuration that failed, and what went wrong.
    pub fn results(&self) -> Result<Vec<(&C, &S)>> {
        let result = |row: &'_ Row<C, S>| match &row.result {
            Ok(_) => Ok(()),
            Err(fault) => Err(Error::config(json(&row.config).to_string(), fault.clone())),
        };
        self.rows.iter().try_for_each(result)?;
        Ok(self.rows.iter().filter_map(|row| Some((&row.config, row.result.as_ref().ok()?))).collect())
    }

    /// Sorts by the numbers in a column. Equal rows keep their order; those without a number come last.
    ///
    /// # Errors
    /// [`Error::Config`] if no row has a number there.
    pub fn sort_by(&mut self, column: &str, order: Order) -> Result<()> {
        let Cells { names, rows } = self.cells();
        let none =
            || Error::config("column", format!("found `{column}`, expected a number, one of {names:?}"));
        let index = names.iter().position(|name| name == column).ok_or_else(none)?;
        let numbers: Vec<_> = rows.iter().map(|row| row[index].as_ref().and_then(Value::as_f64)).collect();
        if numbers.iter().all(Option::is_none) {
            return Err(none());
        }
        let mut sorted: Vec<_> = numbers.into_iter().zip(std::mem::take(&mut self.rows)).collect();
        sorted.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) if order == Order::Ascending => a.total_cmp(b),
            (Some(a), Some(b)) => b.total_cmp(a),
            (a, b) => a.is_none().cmp(&b.is_none()),
        });
        self.rows = sorted.into_iter().map(|(_, row)| row).collect();
        Ok(())
    }

    /// The table as CSV: a line of names and a line for each row. What a row does not have is empty; lists are JSON.
    pub fn to_csv(&self) -> String {
        let Cells { names, rows } = self.cells();
        let quoted = |text: &str| match text.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let mut csv = names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(",") + "\n";
        for row in &rows {
            let cells = row.iter().map(|cell| quoted(&cell.as_ref().map_or_else(String::new, plain)));
            csv += &(cells.collect::<Vec<_>>().join(",") + "\n");
        }
        csv
    }

    /// The table as JSON: a list with an object for each row, `config`, `result` or `error`, and `seconds`.
    pub fn to_json(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let (name, value) = match &row.result {
                Ok(result) => ("result", json(result)),
                Err(fault) => ("error", fault.clone().into()),
            };
            let cells = [("config", json(&row.config)), (name, value), ("seconds", row.seconds.into())];
            cells.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        });
        format!("{:#}\n", Value::Array(rows.map(Value::Object).collect()))
    }

    fn cells(&self) -> Cells {
        let mut cells = Cells { names: Vec::new(), rows: vec![Vec::new(); self.rows.len()] };
        for (i, row) in self.rows.iter().enumerate() {
            for (name, value) in flat("config", &json(&row.config)) {
                let name = if OWN.contains(&&*name) { format!("config.{name}") } else { name };
                cells.set(i, name, value);
            }
        }
        let settings = cells.names.clone();
        for (i, row) in self.rows.iter().enumerate() {
            let Ok(result) = &row.result else { continue };
            for (name, value) in flat("score", &json(result)) {
                let taken = settings.contains(&name) || OWN.contains(&&*name);
                cells.set(i, if taken { format!("result.{name}") } else { name }, value);
            }
        }
        for (i, row) in self.rows.iter().enumerate() {
            cells.set(i, "seconds".into(), row.seconds.into());
        }
        for (i, row) in self.rows.iter().enumerate() {
            if let Err(fault) = &row.result {
                cells.set(i, "error".into(), fault.clone().into());
            }
        }
        let columns = cells.names.len();
        cells.rows.iter_mut().for_each(|row| row.resize(columns, None));
        cells
    }
}

/// Right-aligned columns; numbers that are not integers have four decimals, or four digits if they are small.
impl<C: Serialize, S: Serialize> Display for Table<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cells { names, rows } = self.cells();
        let shown = |cell: &Option<Value>| cell.as_ref().map_or_else(String::new, short);
        let texts: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(shown).collect()).collect();
        let width = |column: usize| {
            let cells = texts.iter().map(|row| &row[column]).chain([&names[column]]);
            cells.map(|text| text.chars().count()).max().map_or(0, names::column)
        };
        let widths: Vec<_> = (0..names.len()).map(width).collect();
        for (i, line) in [&names].into_iter().chain(&texts).enumerate() {
            if i > 0 {
                f.write_char('\n')?;
            }
            let cells = line.iter().zip(&widths).map(|(text, &width)| format!("{text:>width$}"));
            f.write_str(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// The cells of a table, row by row; until all are set, rows may be shorter than the list of names.
struct Cells {
    names: Vec<String>,
    rows: Vec<Vec<Option<Value>>>,
}

impl Cells {
    fn set(&mut self, row: usize, name: String, value: Value) {
        let column = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        let row = &mut self.rows[row];
        row.resize(row.len().max(column + 1), None);
        row[column] = Some(value);
    }
}

/// The fields of an object and of the objects in it, or a value that is not an object, under the name `alone`.
fn flat(alone: &str, value: &Value) -> Vec<(String, Value)> {
    let Value::Object(fields) = value else { return vec![(alone.to_owned(), value.clone())] };
    let inner = |(name, value): (&String, &Value)| match value {
        Value::Object(_) => {
            flat("", value).into_iter().map(|(inner, value)| (format!("{name}.{inner}"), value)).collect()
        }
        _ => vec![(name.clone(), value.clone())],
    };
    fields.iter().flat_map(inner).collect()
}

/// Text without quotes, nothing for null, JSON for all else.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => value.to_string(),
    }
}

fn short(value: &Value) -> String {
    match value.as_f64() {
        Some(x) if !value.is_i64() && !value.is_u64() => {
            let long = format!("{x}");
            let fixed = if x.abs() >= 0.01 { format!("{x:.4}") } else { format!("{x:.3e}") };
            if long.len() < fixed.len() { long } else { fixed }
        }
        _ => plain(value),
    }
}

/// A value that was written as JSON before, as JSON.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize)]
    struct Config {
        lr: f64,
        cell: &'static str,
    }

    #[derive(Debug, Serialize)]
    struct Outcome {
        accuracy: f64,
        lr: f64,
        more: More,
    }

    #[derive(Debug, Serialize)]
    struct More {
        folds: Vec<f64>,
    }

    fn row(lr: f64, cell: &'static str, accuracy: Option<f64>) -> Row<Config, Outcome> {
        let outcome =
            |accuracy| Outcome { accuracy, lr: 2.0 * lr, more: More { folds: vec![accuracy, 0.5] } };
        let result = accuracy.map(outcome).ok_or_else(|| "went \"wrong\", alas".to_owned());
        Row { config: Config { lr, cell }, result, seconds: 1.5 }
    }

    fn table() -> Table<Config, Outcome> {
        let rows =
            vec![row(0.1, "lstm", Some(0.75)), row(0.5, "gru", None), row(0.001, "a,b", Some(0.87654))];
        Table::new(rows, Vec::new())
    }

    #[test]
    fn prints_with_the_same_columns_in_every_row() {
        let expected = "\
cell     lr  accuracy  result.lr     more.folds  seconds               error
lstm    0.1      0.75        0.2     [0.75,0.5]      1.5
 gru    0.5                                          1.5  went \"wrong\", alas
 a,b  0.001    0.8765      0.002  [0.87654,0.5]      1.5";
        assert_eq!(table().to_string(), expected);
    }

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let csv = table().to_csv();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines[0], "cell,lr,accuracy,result.lr,more.folds,seconds,error");
        assert_eq!(lines[1], "lstm,0.1,0.75,0.2,\"[0.75,0.5]\",1.5,");
        assert_eq!(lines[2], "gru,0.5,,,,1.5,\"went \"\"wrong\"\", alas\"");
        assert_eq!(lines[3], "\"a,b\",0.001,0.87654,0.002,\"[0.87654,0.5]\",1.5,");
    }

    #[test]
    fn json_can_be_read() {
        let rows: Vec<Value> = serde_json::from_str(&table().to_json()).unwrap();
        assert_eq!(rows[0]["result"]["accuracy"], 0.75);
        assert_eq!(rows[1]["error"], "went \"wrong\", alas");
        assert_eq!((&rows[2]["config"]["cell"], &rows[2]["seconds"]), (&"a,b".into(), &1.5.into()));
    }

    #[test]
    fn sorting() {
        let mut table = table();
        let rates =
            |table: &Table<Config, Outcome>| table.rows().iter().map(|r| r.config.lr).collect::<Vec<_>>();
        table.sort_by("accuracy", Order::Descending).unwrap();
        assert_eq!(rates(&table), [0.001, 0.1, 0.5], "what failed comes last");
        table.sort_by("accuracy", Order::Ascending).unwrap();
        assert_eq!(rates(&table), [0.1, 0.001, 0.5]);
        table.sort_by("lr", Order::Descending).unwrap();
        assert_eq!(rates(&table), [0.5, 0.1, 0.001]);
        let fault = table.sort_by("cell", Order::Ascending).unwrap_err().to_string();
        assert!(
            fault.starts_with("`column`: found `cell`, expected a number, one of [\"cell\", \"lr\""),
            "{fault}"
        );
        assert!(table.sort_by("loss", Order::Ascending).is_err());
        assert_eq!(rates(&table), [0.5, 0.1, 0.001], "nothing is lost");
    }

    #[test]
    fn own_columns_keep_their_names() {
        let config = serde_json::json!({ "error": 1 });
        let row = Row { config, result: Ok(serde_json::json!({ "seconds": 7 })), seconds: 0.5 };
        let table = Table::new(vec![row], Vec::new());
        assert_eq!(table.to_csv(), "config.error,result.seconds,seconds\n1,7,0.5\n");
    }

    #[test]
    fn failures_are_named() {
        let fault = table().results().unwrap_err().to_string();
        assert_eq!(fault, "`{\"cell\":\"gru\",\"lr\":0.5}`: went \"wrong\", alas");
        let mut table = table();
        table.rows.remove(1);
        assert_eq!(table.results().unwrap().len(), 2);
    }
}
