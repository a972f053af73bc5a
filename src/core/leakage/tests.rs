//! Planted questions are found, and disjoint data has nothing in common.

use super::*;
use crate::digest::Digest;
use crate::recipe::spec::{DataFile, DataFormat, DataSpec, Evaluated, Selection, Split, Templates, TextUse};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

struct Files {
    dir: tempfile::TempDir,
    inputs: BTreeMap<Digest, PathBuf>,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), inputs: BTreeMap::new() }
    }

    /// Writes rows to a file, and returns the data set of their field `text`, as prompts.
    fn data(&mut self, rows: &[Value]) -> DataSpec {
        let text: String = rows.iter().flat_map(|row| [row.to_string(), "\n".to_owned()]).collect();
        let digest = Digest::of(text.as_bytes());
        let path = self.dir.path().join(format!("{}.jsonl", self.inputs.len()));
        fs_err::write(&path, text).unwrap();
        self.inputs.insert(digest.clone(), path);
        DataSpec {
            files: vec![DataFile::File { digest, format: DataFormat::Jsonl }],
            eval_fraction: 0.0,
            dev_fraction: 0.0,
            split: Split::All,
            max_rows: None,
            messages: None,
            templates: Templates {
                prompt: Some("Answer this question in one word: {{ text }}".into()),
                ..Templates::default()
            },
            selection: Selection::default(),
            decontaminate: None,
        }
    }

    fn texts(&mut self, texts: &[String]) -> DataSpec {
        self.data(&texts.iter().map(|text| json!({ "text": text })).collect::<Vec<_>>())
    }

    fn compare(&self, trained: &DataSpec, evaluated: &DataSpec) -> Overlap {
        let set = Evaluated { data: evaluated.clone(), used: TextUse::Questions };
        let index = Index::of(&[&set], &self.inputs).unwrap();
        overlaps(&index, trained, TextUse::Questions, &self.inputs).unwrap().remove(0)
    }
}

/// Returns a text of `count` words that no other `name` has.
fn text(name: &str, count: usize) -> String {
    (0..count).map(|word| format!("{name}{word}")).collect::<Vec<_>>().join(" ")
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_planted_passage_is_found_with_its_rows_and_other_text_is_not() {
    let mut files = Files::new();
    let questions: Vec<String> = (0..40).map(|i| text(&format!("q{i}x"), 20)).collect();
    let mut rows: Vec<String> = (0..2000).map(|i| text(&format!("r{i}y"), 30)).collect();
    rows[1234] =
        format!("{} {}. {}", text("before", 5), questions[7].to_uppercase().replace(' ', ",  "), text("after", 4));
    rows[77] = format!("{} {}", text("z", 9), questions[8].split(' ').take(8).collect::<Vec<_>>().join(" "));
    rows[78] = format!("{} {}", text("z", 9), questions[9].split(' ').take(7).collect::<Vec<_>>().join(" "));
    let (trained, evaluated) = (files.texts(&rows), files.texts(&questions));
    let found = files.compare(&trained, &evaluated);
    assert_eq!((found.rows, found.overlapping_rows), (2000, 2));
    assert_eq!((found.questions, found.overlapping_questions), (40, 2), "seven words in a row are not enough");
    let worst: Vec<(&str, &str, u32, u32)> =
        found.worst.iter().map(|w| (&*w.question.place, &*w.row.place, w.shared, w.of)).collect();
    assert_eq!(worst, [("8", "1235", 13, 13), ("9", "78", 1, 13)]);
    assert_eq!(found.worst[0].passage, questions[7]);
    assert_eq!(files.compare(&evaluated, &trained).overlapping_rows, 2, "the search works in both directions");
    let other = files.texts(&(0..500).map(|i| text(&format!("other{i}"), 25)).collect::<Vec<_>>());
    assert_eq!(files.compare(&other, &evaluated).overlapping_rows, 0);
}

#[test]
fn templates_have_nothing_in_common_and_accents_make_no_difference() {
    let mut files = Files::new();
    let trained = files.texts(&owned(&["L'élève a répondu à la question posée par naïveté hier", "nothing"]));
    let evaluated = files.texts(&owned(&["l eleve a repondu a la question posee par naivete", "e\u{301}le\u{300}ve"]));
    let found = files.compare(&trained, &evaluated);
    assert_eq!((found.overlapping_rows, found.overlapping_questions, found.short_questions), (1, 1, 1));
    let other = files.texts(&owned(&["something else", "another thing entirely"]));
    assert_eq!(files.compare(&other, &evaluated).overlapping_rows, 0, "the words of the template do not count");
}

#[test]
fn a_text_without_spaces_is_compared_by_characters() {
    let mut files = Files::new();
    let trained = files.texts(&owned(&["昔々あるところに心臓は血液を全身に送り出す器官である。", "心臓は血液"]));
    let evaluated = files.texts(&owned(&["心臓は血液を全身に送り出す", "肺は酸素を取り入れる器官だ"]));
    let found = files.compare(&trained, &evaluated);
    assert_eq!((found.overlapping_rows, found.overlapping_questions), (1, 1));
}

#[test]
fn short_questions_are_found_as_a_whole_only() {
    let mut files = Files::new();
    let trained = files.texts(&owned(&["Which organ pumps blood?", "Say which organ pumps blood today", "femur"]));
    let evaluated = files.texts(&owned(&["which organ pumps blood", "femur", "Which organ pumps"]));
    let found = files.compare(&trained, &evaluated);
    assert_eq!((found.overlapping_rows, found.overlapping_questions, found.short_questions), (1, 1, 2));
}

#[test]
fn words_that_many_questions_begin_with_identify_none() {
    let mut files = Files::new();
    let begin = text("read the passage and answer", 2) + " " + &text("begin", 12);
    let questions: Vec<String> = (0..30).map(|i| format!("{begin} {}", text(&format!("q{i}x"), 10))).collect();
    let (trained, evaluated) = (files.texts(std::slice::from_ref(&begin)), files.texts(&questions));
    let found = files.compare(&trained, &evaluated);
    assert_eq!((found.overlapping_rows, found.overlapping_questions), (0, 0));
    assert!(found.common_runs > 5);
    let few = files.texts(&questions[..10]);
    assert_eq!(
        files.compare(&trained, &few).overlapping_questions,
        10,
        "ten questions may be a passage with its questions"
    );
}

#[test]
fn rows_that_overlap_are_dropped_before_max_rows_counts() {
    let mut files = Files::new();
    let questions = [text("q", 12)];
    let rows: Vec<String> = (0..10)
        .map(|i| if i % 3 == 1 { format!("{} {i}", questions[0]) } else { text(&format!("r{i}"), 12) })
        .collect();
    let evaluated = files.texts(&questions);
    let sets = vec![Evaluated { data: evaluated.clone(), used: TextUse::Questions }];
    let trained = DataSpec { decontaminate: Some(sets), max_rows: Some(4), ..files.texts(&rows) };
    let (kept, dropped) = clean_rows(&trained, TextUse::Questions, &files.inputs).unwrap();
    let kept: Vec<usize> = kept.iter().map(|row| row.index).collect();
    assert_eq!((kept, dropped), (vec![0, 2, 3, 5], 2));
    let found = files.compare(&trained, &evaluated);
    assert_eq!((found.rows, found.overlapping_rows), (6, 2), "`check` counts the same rows");
    let all = DataSpec { files: evaluated.files.clone(), ..trained };
    let error = clean_rows(&all, TextUse::Questions, &files.inputs).unwrap_err();
    assert!(error.message.contains("`decontaminate` drops all 1 rows") && error.hint.is_some(), "{error}");
}

#[test]
fn many_words_with_equal_hashes_of_leading_digits_are_told_apart() {
    let mut files = Files::new();
    let questions: Vec<String> = (0..3000).map(|i| text(&format!("q{i}x"), 9)).collect();
    let (one, other) = (files.texts(&questions), files.texts(&questions[..1500]));
    let found = files.compare(&one, &other);
    assert_eq!((found.overlapping_rows, found.overlapping_questions), (1500, 1500));
    assert_eq!(found.worst.iter().map(|worst| &*worst.question.place).collect::<Vec<_>>(), ["1", "2", "3"]);
}

/// Returns the overlap as a program without hashes finds it: all runs of eight words, compared one by one.
fn naive(rows: &[String], questions: &[String]) -> (usize, usize) {
    let words = |text: &String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let have_in_common = |row: &String, question: &String| {
        let (row, question) = (words(row), words(question));
        row.windows(RUN).any(|run| question.windows(RUN).any(|other| run == other))
    };
    let of_rows = rows.iter().filter(|row| questions.iter().any(|question| have_in_common(row, question)));
    let of_questions = questions.iter().filter(|question| rows.iter().any(|row| have_in_common(row, question)));
    (of_rows.count(), of_questions.count())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_overlap_is_that_of_a_comparison_word_by_word(
        rows in proptest::collection::vec("[ab]( [abc]){9,24}", 1..12),
        questions in proptest::collection::vec("[ab]( [abc]){9,16}", 1..8),
    ) {
        let mut files = Files::new();
        let (trained, evaluated) = (files.texts(&rows), files.texts(&questions));
        if trained != evaluated {
            let found = files.compare(&trained, &evaluated);
            prop_assert_eq!((found.overlapping_rows, found.overlapping_questions), naive(&rows, &questions));
        }
    }
}

/// `tests/golden/gen_decontaminate.py` asked open-r1's `decontaminate.py`, which compares rows by their words as they
/// are. These texts have no punctuation and no accents.
#[test]
fn rows_are_contaminated_where_open_r1_says_so() {
    #[derive(serde::Deserialize)]
    struct Golden {
        questions: Vec<String>,
        rows: Vec<String>,
        contaminated: Vec<bool>,
    }
    let golden: Golden = serde_json::from_str(include_str!("../../../tests/golden/decontaminate.json")).unwrap();
    let mut files = Files::new();
    let sets = vec![Evaluated { data: files.texts(&golden.questions), used: TextUse::Questions }];
    let trained = DataSpec { decontaminate: Some(sets), ..files.texts(&golden.rows) };
    let (kept, dropped) = clean_rows(&trained, TextUse::Questions, &files.inputs).unwrap();
    let kept: Vec<usize> = kept.iter().map(|row| row.index).collect();
    let clean: Vec<usize> = (0..golden.rows.len()).filter(|row| !golden.contaminated[*row]).collect();
    assert_eq!((kept, dropped), (clean, golden.contaminated.iter().filter(|found| **found).count()));
}
