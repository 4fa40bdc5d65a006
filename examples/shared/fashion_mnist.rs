//! Where Fashion-MNIST lies.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bptt::data::FashionMnist;
use bptt::{Error, Result};

/// The environment variable that names the folder.
const VARIABLE: &str = "FASHION_MNIST";
/// Where the repository keeps the files.
const IN_REPOSITORY: &str = "data/fashion-mnist";
/// Where Debian's package `dataset-fashion-mnist` puts them.
const DEBIAN: &str = "/usr/share/datasets/fashion-mnist";
/// The four files, each with or without `.gz`.
const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Reads the files in `folder` or, if none is given, in the first of these that has any of them: the folder that the
/// environment variable `FASHION_MNIST` names, `data/fashion-mnist` in the current folder and in this repository, and that
/// of Debian's package `dataset-fashion-mnist`.
///
/// A folder that is named, by the caller or the variable, is the only one that is tried.
///
/// # Errors
/// Those of [`FashionMnist::open`], and [`Error::Config`] if the files are nowhere; it says where they were looked for and
/// how to get them.
pub fn find(folder: Option<&Path>) -> Result<FashionMnist> {
    let places = [
        PathBuf::from(IN_REPOSITORY),
        Path::new(env!("CARGO_MANIFEST_DIR")).join(IN_REPOSITORY),
        PathBuf::from(DEBIAN),
    ];
    FashionMnist::open(look(folder, std::env::var_os(VARIABLE), &places)?)
}

/// The folder to read: the one given, the variable's, or the first of `places` that has one of the files.
fn look(given: Option<&Path>, variable: Option<OsString>, places: &[PathBuf]) -> Result<PathBuf> {
    if let Some(folder) = given {
        return Ok(folder.to_path_buf());
    }
    if let Some(folder) = variable.filter(|folder| !folder.is_empty()) {
        return Ok(folder.into());
    }
    let has = |place: &Path, name: &str| {
        [name.to_owned(), format!("{name}.gz")].iter().any(|name| place.join(name).is_file())
    };
    let has_any = |place: &&PathBuf| FILES.iter().any(|name| has(place, name));
    places.iter().find(has_any).cloned().ok_or_else(|| {
        let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        Error::config(
            VARIABLE,
            format!(
                "this environment variable is not set, and no Fashion-MNIST was found in {}. To get it, install \
                 Debian's package `dataset-fashion-mnist`, or download the four files `{}.gz`, … from \
                 https://github.com/zalandoresearch/fashion-mnist and give their folder",
                places.join(", "),
                FILES[0],
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// A folder with the first `n` of the files, empty.
    fn folder(n: usize) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        FILES[..n].iter().for_each(|name| fs::write(folder.path().join(format!("{name}.gz")), []).unwrap());
        folder
    }

    #[test]
    fn looks_in_order() {
        let (full, half, empty) = (folder(4), folder(2), folder(0));
        let places: Vec<PathBuf> = [&empty, &half, &full].map(|folder| folder.path().to_path_buf()).into();
        let given = Path::new("given");
        assert_eq!(look(Some(given), Some("variable".into()), &places).unwrap(), given);
        assert_eq!(look(None, Some("variable".into()), &places).unwrap(), Path::new("variable"));
        // A folder with some of the files is the one meant, and what it lacks is then an error.
        assert_eq!(look(None, Some("".into()), &places).unwrap(), half.path());
        assert_eq!(look(None, None, &places).unwrap(), half.path());
        assert_eq!(look(None, None, &places[2..]).unwrap(), full.path());

        let message = look(None, None, &["one/place".into(), "another".into()]).unwrap_err().to_string();
        for part in ["FASHION_MNIST", "one/place, another", "dataset-fashion-mnist", "zalandoresearch"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_folder_given_is_the_only_one() {
        let empty = folder(0);
        let message = find(Some(empty.path())).unwrap_err().to_string();
        assert!(message.starts_with(&empty.path().display().to_string()), "{message}");
    }
}
