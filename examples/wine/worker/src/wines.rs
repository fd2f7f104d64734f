//! The wines, as CSV: read and written here alone.

use crate::error::WorkerError;

/// The 11 measurements of a wine, in the order of the data set's columns.
pub(crate) const FEATURES: [&str; 11] = [
    "fixed acidity",
    "volatile acidity",
    "citric acid",
    "residual sugar",
    "chlorides",
    "free sulfur dioxide",
    "total sulfur dioxide",
    "density",
    "pH",
    "sulphates",
    "alcohol",
];

/// What the experts said: 0 (bad) to 10.
pub(crate) const QUALITY: &str = "quality";

/// Wines without or with their quality.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wines {
    /// A wine's measurements a row.
    pub(crate) features: Vec<Vec<f64>>,
    /// As many as rows where the wines are rated, else none.
    pub(crate) qualities: Vec<i32>,
}

/// Reads rated wines: all columns, in their order.
pub(crate) fn read_rated(object: &str, csv: &[u8]) -> Result<Wines, WorkerError> {
    read(object, csv, true)
}

/// Reads wines that nobody has rated: all columns but the quality.
pub(crate) fn read_unrated(object: &str, csv: &[u8]) -> Result<Wines, WorkerError> {
    read(object, csv, false)
}

fn read(object: &str, csv: &[u8], is_rated: bool) -> Result<Wines, WorkerError> {
    let refused = |problem: String| WorkerError::Data { object: object.to_owned(), problem };
    let columns: Vec<&str> = FEATURES.into_iter().chain(is_rated.then_some(QUALITY)).collect();
    let mut reader = csv::Reader::from_reader(csv);
    let header = reader.headers().map_err(|error| refused(error.to_string()))?;
    if header.iter().ne(columns.iter().copied()) {
        let found = header.iter().collect::<Vec<_>>().join(", ");
        return Err(refused(format!("its columns are {found}; wanted are {}", columns.join(", "))));
    }
    let mut wines = Wines::default();
    for record in reader.records() {
        let record = record.map_err(|error| refused(error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut values = Vec::with_capacity(columns.len());
        for (column, text) in columns.iter().zip(&record) {
            let value = text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
            values.push(
                value.ok_or_else(|| {
                    refused(format!("line {line}: {column} is `{text}`, no number"))
                })?,
            );
        }
        if is_rated {
            let quality = values.pop().unwrap_or_default();
            if !(0.0..=10.0).contains(&quality) || quality.fract() != 0.0 {
                return Err(refused(format!(
                    "line {line}: quality is {quality}, not a whole number from 0 to 10"
                )));
            }
            #[expect(clippy::cast_possible_truncation, reason = "a whole number from 0 to 10")]
            wines.qualities.push(quality as i32);
        }
        wines.features.push(values);
    }
    Ok(wines)
}

impl Wines {
    pub(crate) fn append(&mut self, mut others: Self) {
        self.features.append(&mut others.features);
        self.qualities.append(&mut others.qualities);
    }

    pub(crate) fn rows(&self) -> usize {
        self.features.len()
    }
}

/// A CSV table of texts that are CSV's own: what was read is written as it was.
pub(crate) fn write_csv<Row>(header: Row, rows: impl IntoIterator<Item = Row>) -> Vec<u8>
where
    Row: IntoIterator,
    Row::Item: AsRef<[u8]>,
{
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in std::iter::once(header).chain(rows) {
        writer.write_record(row).expect("rows of one length fit into memory");
    }
    writer.into_inner().expect("memory takes what is flushed to it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(last_line: &str) -> Vec<u8> {
        let header = FEATURES.into_iter().chain([QUALITY]).collect::<Vec<_>>().join(",");
        format!("{header}\n7.4,0.7,0,1.9,0.076,11,34,0.9978,3.51,0.56,9.4,5\n{last_line}\n")
            .into_bytes()
    }

    #[test]
    fn rated_wines_are_read() {
        let wines =
            read_rated("raw/a.csv", &csv("7.8,0.88,0,2.6,0.098,25,67,0.9968,3.2,0.68,9.8,6"))
                .unwrap();
        assert_eq!(wines.qualities, [5, 6]);
        assert_eq!(wines.features[1][10], 9.8);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (line, problem) in [
            (
                "7.8,red,0,2.6,0.098,25,67,0.9968,3.2,0.68,9.8,6",
                "line 3: volatile acidity is `red`, no number",
            ),
            (
                "7.8,NaN,0,2.6,0.098,25,67,0.9968,3.2,0.68,9.8,6",
                "line 3: volatile acidity is `NaN`, no number",
            ),
            ("7.8,0.88,0,2.6,0.098,25,67,0.9968,3.2,0.68,9.8,5.5", "line 3: quality is 5.5"),
            ("7.8,0.88", "record 2 (line: 3, byte:"),
        ] {
            let error = read_rated("raw/a.csv", &csv(line)).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("raw/a.csv"), "{error}");
        }
        let error = read_unrated("unseen/a.csv", &csv("")).unwrap_err().to_string();
        assert!(error.contains("its columns are fixed acidity"), "{error}");
    }
}
