//! `export`: runs as files of other programs.

use crate::env::TestEnv;
use crate::history::sampled;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};

fn sampled_run() -> TestEnv {
    let env = TestEnv::new();
    env.write("events/base", &sampled());
    env.run(&["run", "small.toml", "--only", "other"]).ends_with(0);
    env.run(&["run", "small.toml", "--only", "tuned"]).ends_with(0);
    env
}

/// Reads the rows of a Parquet file as the objects that `--format json` writes.
fn parquet_rows(env: &TestEnv, name: &str) -> Vec<Value> {
    let file = SerializedFileReader::new(std::fs::File::open(env.path(name)).unwrap()).unwrap();
    let object = |row: parquet::record::Row| {
        let value = |field: &Field| match field {
            Field::Null => Value::Null,
            Field::Long(number) => json!(number),
            Field::Double(number) => json!(number),
            Field::Str(text) => json!(text),
            other => panic!("{other:?}"),
        };
        row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect::<Value>()
    };
    file.get_row_iter(None).unwrap().map(|row| object(row.unwrap())).collect()
}

#[test]
fn every_format_has_the_rows_of_the_run_and_no_others() {
    let env = sampled_run();
    for format in ["csv", "json", "parquet"] {
        let told = env.run(&["export", "latest", "--format", format, "-o", "out", "--json"]).ends_with(0).json();
        let rows: Vec<u64> = told.iter().map(|line| line["rows"].as_u64().unwrap()).collect();
        // Runs, stages, metrics (3 of each stage and 3 sampled ones), results, completions, rewards, cache.
        assert_eq!(rows, [1, 2, 6, 2, 6, 12, 2], "{format}");
    }
    for name in ["runs", "stages", "metrics", "results", "completions", "rewards", "cache"] {
        let text = fs_err::read_to_string(env.path(&format!("out/{name}.jsonl"))).unwrap();
        let json: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parquet_rows(&env, &format!("out/{name}.parquet")), json, "{name}");
        let csv = fs_err::read_to_string(env.path(&format!("out/{name}.csv"))).unwrap();
        assert_eq!(csv.lines().count(), json.len() + 1, "{name}");
        let columns: Vec<&str> = json[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(csv.lines().next().unwrap(), columns.join(","), "{name}");
    }
    let rewards = fs_err::read_to_string(env.path("out/rewards.csv")).unwrap();
    assert!(rewards.lines().any(|line| line.ends_with(",3,7,1,rouge,,0.0,the row has no reference")), "{rewards}");
    let told = env.run(&["export", "--format", "csv", "-o", "out"]).ends_with(0).stdout;
    assert!(told.starts_with("out/runs.csv  1 row\nout/stages.csv  2 rows\n"), "{told}");
    env.run(&["export", "nothing", "--format", "csv", "-o", "out"]).ends_with(5);
    env.run(&["export", "latest", "--format", "xlsx", "-o", "out"]).ends_with(2).says(&["parquet"]);
    env.run(&["export", "latest", "--format", "csv", "-o", "small.toml/out"]).ends_with(1).says(&["small.toml"]);
}

/// Returns the payloads of a file's records.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        records.push(bytes[12..12 + length].to_vec());
        bytes = &bytes[12 + length + 4..];
    }
    records
}

#[test]
fn tensorboard_gets_a_directory_with_the_scalars_of_each_stage() {
    let env = sampled_run();
    let told = env.run(&["export", "--format", "tensorboard", "-o", "tb", "--json"]).ends_with(0).json();
    let files: Vec<&str> = told.iter().map(|line| line["file"].as_str().unwrap()).collect();
    let run = &env.run(&["history", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    let file = |stage: &str| format!("tb/{run}/{stage}/events.out.tfevents.0.orchestrate");
    assert_eq!(files, [file("base"), file("tuned")]);
    assert_eq!(told[0]["rows"], 3);
    let found = records(&fs_err::read(env.path(&file("base"))).unwrap());
    assert_eq!(found.len(), 4, "a version and three steps");
    assert!(found[0].ends_with(b"brain.Event:2"));
    let last = [&[0x10, 3, 0x2A, 20, 0x0A, 18, 0x0A, 11][..], b"reward/mean", &[0x15], &0.1f32.to_le_bytes()].concat();
    assert_eq!(found[3][9..], last, "step 3, as it was done in the end");
    // The worker's time, 2026-01-01.
    assert_eq!(found[3][..9], [&[0x09][..], &1_767_225_600f64.to_le_bytes()].concat());
    assert_eq!(fs_err::read_dir(env.path(&format!("tb/{run}/base"))).unwrap().count(), 1);
}
