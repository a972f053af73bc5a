//! References to the Hugging Face hub in recipes: `hf://owner/name@revision`.

use std::fmt;

/// The prefix of a reference to the hub.
pub const HUB_SCHEME: &str = "hf://";

/// The hub's name for the newest state of a repository.
const DEFAULT_REVISION: &str = "main";

/// Prefixes of the hub's own revisions that contain a slash: pull requests, and data sets converted to Parquet.
const SLASHED_REVISIONS: [&str; 2] = ["refs/pr/", "refs/convert/"];

/// The kind of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HubRepoKind {
    /// A model: `hf://owner/name`.
    Model,
    /// A data set: `hf://datasets/owner/name/file.jsonl`.
    Dataset,
}

/// A reference to a repository on the hub at a revision, or to files of a data set in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubReference {
    /// The kind of the repository.
    pub kind: HubRepoKind,
    /// The repository's name, `owner/name`.
    pub repo: String,
    /// A commit (40 hexadecimal digits), which never changes, or a branch or tag, which may change.
    pub revision: String,
    /// The file of a data set, or a pattern with `*`.
    pub file: Option<String>,
}

impl HubReference {
    /// Whether `path` has the prefix of a reference to the hub.
    pub fn is_meant(path: &str) -> bool {
        path.starts_with(HUB_SCHEME)
    }

    /// Reads `hf://owner/name@revision` or `hf://datasets/owner/name@revision/file`.
    ///
    /// # Errors
    /// A short reason why `text` is not a valid reference.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(HUB_SCHEME).ok_or_else(|| format!("it does not begin with `{HUB_SCHEME}`"))?;
        let (kind, rest) = match rest.strip_prefix("datasets/") {
            Some(rest) => (HubRepoKind::Dataset, rest),
            None => (HubRepoKind::Model, rest),
        };
        let Some((owner, rest)) = rest.split_once('/') else {
            return Err("it lacks the owner or the name".to_owned());
        };
        let name_ends = rest.find(['@', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(name_ends);
        for part in [owner, name] {
            if !is_repo_part(part) {
                return Err(format!("`{part}` is not a name of the hub (letters, digits, `-`, `_` and `.`)"));
            }
        }
        let (revision, file) = match (rest.strip_prefix('@'), rest.strip_prefix('/')) {
            (Some(rest), _) => split_revision(kind, rest),
            (None, file) => (DEFAULT_REVISION, file),
        };
        if !is_path(revision) || !revision.chars().all(|c| c.is_ascii_alphanumeric() || "-_./+".contains(c)) {
            return Err(format!("`{revision}` is not a branch, a tag or a commit"));
        }
        match (kind, file) {
            (HubRepoKind::Model, Some(file)) => {
                return Err(format!("a model is named as a whole, without `/{file}`"));
            }
            (HubRepoKind::Dataset, None) => return Err("it names no file of the data set".to_owned()),
            (HubRepoKind::Dataset, Some(file)) if !is_path(file) => {
                return Err(format!("`{file}` is not a file in a repository"));
            }
            _ => {}
        }
        let repo = format!("{owner}/{name}");
        Ok(Self { kind, repo, revision: revision.to_owned(), file: file.map(str::to_owned) })
    }

    /// Whether the revision is a commit, which always names the same files.
    pub fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }

    /// Returns this reference with `commit` as its revision.
    #[must_use]
    pub fn pinned_to(&self, commit: &str) -> Self {
        Self { revision: commit.to_owned(), ..self.clone() }
    }
}

impl fmt::Display for HubReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = if self.kind == HubRepoKind::Dataset { "datasets/" } else { "" };
        write!(f, "{HUB_SCHEME}{folder}{}@{}", self.repo, self.revision)?;
        self.file.as_ref().map_or(Ok(()), |file| write!(f, "/{file}"))
    }
}

/// Whether `text` is the full hash of a git commit.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Splits `REVISION/FILE` of a data set. A model has no file, so its revision may contain any number of slashes.
fn split_revision(kind: HubRepoKind, text: &str) -> (&str, Option<&str>) {
    if kind == HubRepoKind::Model {
        return (text, None);
    }
    let skipped = SLASHED_REVISIONS.iter().find(|prefix| text.starts_with(**prefix)).map_or(0, |prefix| prefix.len());
    match text[skipped..].find('/') {
        Some(slash) => (&text[..skipped + slash], Some(&text[skipped + slash + 1..])),
        None => (text, None),
    }
}

/// Whether `text` satisfies the hub's own rule for names (`validate_repo_id` of `huggingface_hub`).
fn is_repo_part(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=96).contains(&text.len())
        && text.chars().all(fits)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether `text` is a relative path that stays below its base directory.
pub fn is_path(text: &str) -> bool {
    !text.contains(['\\', '\0']) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn parsed(text: &str) -> (HubRepoKind, String, String, Option<String>) {
        let found = HubReference::parse(text).unwrap();
        (found.kind, found.repo, found.revision, found.file)
    }

    #[test]
    fn a_model_with_and_without_a_revision() {
        let model = |revision: &str| (HubRepoKind::Model, "o-w/n.1".to_owned(), revision.to_owned(), None);
        assert_eq!(parsed("hf://o-w/n.1"), model("main"));
        assert_eq!(parsed("hf://o-w/n.1@v1.0"), model("v1.0"));
        assert_eq!(parsed("hf://o-w/n.1@refs/pr/3"), model("refs/pr/3"));
        assert_eq!(parsed(&format!("hf://o-w/n.1@{COMMIT}")), model(COMMIT));
    }

    #[test]
    fn files_of_a_data_set() {
        let rows = |revision: &str, file: &str| {
            (HubRepoKind::Dataset, "o/n".to_owned(), revision.to_owned(), Some(file.to_owned()))
        };
        assert_eq!(parsed("hf://datasets/o/n/a.jsonl"), rows("main", "a.jsonl"));
        assert_eq!(parsed("hf://datasets/o/n@v1/d/*.jsonl"), rows("v1", "d/*.jsonl"));
        let converted = "refs/convert/parquet";
        assert_eq!(parsed(&format!("hf://datasets/o/n@{converted}/d/0.parquet")), rows(converted, "d/0.parquet"));
    }

    #[test]
    fn only_a_whole_commit_is_pinned() {
        assert!(HubReference::parse(&format!("hf://o/n@{COMMIT}")).unwrap().is_pinned());
        for branch in ["main", &COMMIT[..7], &COMMIT.to_uppercase()] {
            assert!(!HubReference::parse(&format!("hf://o/n@{branch}")).unwrap().is_pinned());
        }
    }

    #[test]
    fn what_could_leave_the_cache_or_means_nothing_is_refused() {
        for text in [
            "hf://",
            "hf://gpt2",
            "hf:///n",
            "hf://o/",
            "hf://o/n@",
            "hf://../n",
            "hf://o/..",
            "hf://o/n@../../x",
            "hf://o/n@/x",
            "hf://o/n/file",
            "hf://o/n@a b",
            "hf://o/a--b",
            "hf://datasets/o/n",
            "hf://datasets/o/n@main",
            "hf://datasets/o/n/../x",
            "hf://datasets/o/n//x",
            "hf://datasets/o/n@v/a\\b",
            "models/tiny",
        ] {
            assert!(HubReference::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_means_the_same(text in "hf://(datasets/)?[a-c./-]{0,6}/[a-c./-]{0,6}@?[a-c./-]{0,9}(/[a-c./*]{0,6})?") {
            if let Ok(reference) = HubReference::parse(&text) {
                prop_assert_eq!(HubReference::parse(&reference.to_string()), Ok(reference));
            }
        }
    }
}
