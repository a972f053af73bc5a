//! Accepts a single SQL statement that can only read.
//!
//! The database is opened read-only, which prevents every change to it. But `VACUUM INTO` and `ATTACH` write other
//! files, `BEGIN` keeps locks, and a statement may hide behind another one.

/// The first words of accepted statements. SQLite itself refuses a write after `WITH`.
const READS: [&str; 4] = ["SELECT", "WITH", "VALUES", "EXPLAIN"];

/// Why a statement is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuestionError {
    /// The text is not exactly one statement.
    #[error("expected one SQL statement, found {0}")]
    Count(usize),
    /// The statement may write.
    #[error("expected a statement that only reads, found `{0}`")]
    Writes(String),
}

/// Fails unless `sql` is a single statement that can only read.
pub fn check_question(sql: &str) -> Result<(), QuestionError> {
    let code = without_texts(sql);
    let statements: Vec<&str> = code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).collect();
    let [statement] = statements[..] else { return Err(QuestionError::Count(statements.len())) };
    let word: String = statement.chars().take_while(char::is_ascii_alphabetic).collect();
    if READS.iter().any(|read| word.eq_ignore_ascii_case(read)) {
        return Ok(());
    }
    Err(QuestionError::Writes(statement.split_whitespace().next().unwrap_or_default().to_owned()))
}

/// Returns the statement without comments and with empty quoted texts and names.
fn without_texts(sql: &str) -> String {
    let (mut code, mut rest) = (String::new(), sql);
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        let until = |end: &str| after.find(end).map_or("", |at| &after[at + end.len()..]);
        rest = match first {
            '\'' | '"' | '`' => {
                code.extend([first, first]); // a doubled quote ends one text and begins another
                until(&first.to_string())
            }
            '[' => {
                code.push_str("[]");
                until("]")
            }
            '-' if after.starts_with('-') => until("\n"),
            '/' if after.starts_with('*') => until("*/"),
            _ => {
                code.push(first);
                after
            }
        };
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_statement_that_reads() {
        for sql in [
            "SELECT 1",
            " -- first\n/* the ; */ select ';', \"a;b\", `c;d`, [e;f], 'it''s; so' ; -- end",
            "with x as (select 1) select * from x",
            "VALUES (1)",
            "EXPLAIN QUERY PLAN SELECT 1",
        ] {
            assert_eq!(check_question(sql), Ok(()), "{sql}");
        }
        for sql in [
            "",
            ";",
            "VACUUM INTO '/tmp/x'",
            "ATTACH '/tmp/x' AS y",
            "BEGIN EXCLUSIVE",
            "CREATE TEMP TABLE x (y)",
            "PRAGMA journal_mode = DELETE",
            "SELECT 1; VACUUM INTO '/tmp/x'",
            "SELECT ''';'; VACUUM INTO '/tmp/x'; --'",
            "/* SELECT */ DELETE FROM run_rows",
            "SELECT 1 /* ' */; DROP TABLE run_rows /* ' */",
        ] {
            assert!(check_question(sql).is_err(), "{sql}");
        }
    }
}
