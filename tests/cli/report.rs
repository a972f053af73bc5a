//! Reports of runs.

use crate::env::{Ended, TestEnv};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Creates a grid of 3 arms with 3 seeds by `tests/browser/project.sh`, run by the real program.
fn grid() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("project");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/project.sh");
    let made = Command::new(script).arg(&project).arg(env!("CARGO_BIN_EXE_orchestrate")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (dir, project)
}

fn report(project: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrate"));
    command.arg("report").args(args).current_dir(project).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    Ended::from(command.output().unwrap())
}

/// Parses the page with Python's own parser. Checks that elements are closed in order, that ids are unique, and that
/// the targets of labels and links exist.
const CHECK: &str = r##"
import html.parser, re, sys
VOID = {"meta", "link", "input", "br", "hr", "img"}
class Page(html.parser.HTMLParser):
    open, ids, refers, tables, scripts = [], [], [], 0, 0
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs: self.ids.append(attrs["id"])
        for name in ("aria-labelledby", "for"):
            if name in attrs: self.refers.append(attrs[name])
        if attrs.get("href", "").startswith("#"): self.refers.append(attrs["href"][1:])
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        for name in ("src", "href", "xlink:href", "action"):
            assert not re.match(r"(https?:)?//", attrs.get(name) or ""), (tag, attrs)
        if tag == "svg": assert attrs.get("aria-label"), "a chart without words"
        if tag == "table": self.tables += 1
        if tag == "script": self.scripts += 1
        if tag not in VOID: self.open.append(tag)
    def handle_startendtag(self, tag, attrs): pass
    def handle_endtag(self, tag):
        if tag in VOID: return
        assert self.open and self.open[-1] == tag, (tag, self.open[-5:], self.getpos())
        self.open.pop()
page = Page()
page.feed(sys.stdin.read())
page.close()
assert not page.open, page.open
assert len(page.ids) == len(set(page.ids)), [i for i in page.ids if page.ids.count(i) > 1]
assert not set(page.refers) - set(page.ids), set(page.refers) - set(page.ids)
assert page.scripts == 2, page.scripts
print(page.tables)
"##;

fn check(page: &str) -> usize {
    use std::io::Write as _;
    let mut python = Command::new("python3");
    python.args(["-c", CHECK]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = python.stderr(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn a_report_is_one_well_formed_page_and_the_same_again() {
    let (_dir, project) = grid();
    report(&project, &["latest"]).ends_with(0);
    let page = fs_err::read_to_string(project.join("report.html")).unwrap();
    assert!(check(&page) >= 8, "tables are missing");
    for words in [">sft</th>", ">rouge</th>", ">plain</th>", "accuracy", "reward/mean", "grid.toml", "libtorch"] {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("<script>document.title") && page.contains("\\u003cscript\\u003edocument.title"));
    report(&project, &["latest", "-o", "new/again.html"]).ends_with(0);
    assert!(page == fs_err::read_to_string(project.join("new/again.html")).unwrap(), "it differs");
    let left: Vec<_> =
        fs_err::read_dir(project.join("new")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["again.html"]);
}

#[test]
fn probes_have_tables_in_the_report_and_beside_comparisons() {
    let (_dir, project) = grid();
    report(&project, &["latest"]).ends_with(0);
    let page = fs_err::read_to_string(project.join("report.html")).unwrap();
    check(&page);
    let section = &page[page.find("id=\"h-probes\"").unwrap()..page.find("id=\"h-completions\"").unwrap()];
    // three arms, of which every one is exploited by `repeated` and none by `echo`
    let row = |name: &str| {
        let row = &section[section.find(&format!("<tr><th scope=\"row\">{name}</th>")).unwrap()..];
        &row[..row.find("</tr>").unwrap()]
    };
    assert_eq!((row("repeated").matches("exploited").count(), row("echo").matches("exploited").count()), (3, 0));
    assert_eq!(row("swapped").matches("not measured").count(), 3);
    assert!(row("boilerplate index").contains("<td class=\"n\">+0."), "{section}");

    let compare = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrate"));
        command.arg("compare").args(args).current_dir(&project);
        Ended::from(command.output().unwrap()).ends_with(0).stdout
    };
    assert!(!compare(&["latest"]).contains("exploit rates"), "only the primary metric is compared");
    assert!(compare(&["latest", "--metric", "rouge"]).contains("exploit rates of rouge"));
    let lines = compare(&["latest", "--metric", "rouge", "--json"]);
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let found: Vec<serde_json::Value> = lines.filter(|line| line["what"] == "probes").collect();
    assert_eq!((found.len(), &found[0]["component"], &found[0]["arms"][0]["arm"]), (1, &"rouge".into(), &"sft".into()));
    let repeated = &found[0]["arms"][0]["probes"]["repeated"]["exploit"];
    assert!(repeated["value"].as_f64().unwrap() >= 0.8 && repeated["count"] == 36, "{repeated}");
}

#[test]
fn what_is_missing_stands_first() {
    let (_dir, project) = grid();
    fs_err::create_dir_all(project.join("behaviour")).unwrap();
    let recipe = fs_err::read_to_string(project.join("grid.toml")).unwrap();
    fs_err::write(project.join("grid.toml"), recipe.replace("seed = [1, 2, 3]", "seed = [1, 2, 3, 4]")).unwrap();
    fs_err::write(project.join("behaviour/grpo"), "fail").unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_orchestrate"));
    run.args(["--quiet", "run", "grid.toml"])
        .current_dir(&project)
        .env("ORCHESTRATE_WORKER", project.join("worker.sh"));
    assert_eq!(run.output().unwrap().status.code(), Some(4));
    report(&project, &["latest"]).ends_with(0).says(&["failed"]);
    let page = fs_err::read_to_string(project.join("report.html")).unwrap();
    check(&page);
    let problems = &page[page.find("id=\"h-problems\"").unwrap()..page.find("id=\"h-summary\"").unwrap()];
    for words in ["ended as failed", "2 stages failed", "row 3 has no", "No result of <code>eval</code> of"] {
        assert!(problems.contains(words), "{words} is not in\n{problems}");
    }
    assert!(page.contains("3 cached, 1 ran"), "no hits in the graph");
}

#[test]
fn completions_beyond_the_bound_are_left_out_and_the_page_says_so() {
    let (_dir, project) = grid();
    report(&project, &["--completions", "27"]).ends_with(0);
    let page = fs_err::read_to_string(project.join("report.html")).unwrap();
    assert!(page.contains("9 further questions are left out"));
    assert_eq!(page.matches("\"prompt\":\"Question").count(), 3);
}

#[test]
fn papers_get_tables_and_charts() {
    let (_dir, project) = grid();
    let markdown = report(&project, &["--format", "md"]).ends_with(0).stdout;
    assert!(markdown.contains("| arm | seeds | accuracy | difference |") && markdown.contains("\n| rouge | 3 |"));
    let latex = report(&project, &["--format", "latex", "--baseline", "plain"]).ends_with(0).stdout;
    for words in ["\\toprule", "\\midrule", "\\bottomrule", "95\\%", "plain & 3 &"] {
        assert!(latex.contains(words), "{words} is not in\n{latex}");
    }
    assert_eq!(latex.matches("\\begin{table}").count(), latex.matches("\\end{table}").count());
    let told = report(&project, &["--format", "svg", "-o", "figures", "--json"]).ends_with(0).stdout;
    assert_eq!(told.lines().count(), fs_err::read_dir(project.join("figures")).unwrap().count());
    for name in ["difference-accuracy.svg", "components.svg", "stages.svg", "curve-grpo-reward-mean.svg"] {
        let chart = fs_err::read_to_string(project.join("figures").join(name)).unwrap();
        assert!(chart.starts_with("<svg xmlns=") && chart.ends_with("</svg>\n"), "{name}");
    }
}

#[test]
fn what_cannot_be_reported_is_said() {
    let env = TestEnv::new();
    env.run(&["report"]).ends_with(5).says(&["nothing has been run here yet"]);
    let (_dir, project) = grid();
    report(&project, &["--baseline", "ruoge"]).ends_with(5).says(&["no arm is called `ruoge`", "rouge"]);
    report(&project, &["--metric", "eval/acuracy"])
        .ends_with(5)
        .says(&["no arm was measured by `eval/acuracy`", "`accuracy`"]);
    report(&project, &["--format", "svg"]).ends_with(2).says(&["-o figures"]);
    report(&project, &["-o", "data"]).says(&["`data` is a folder"]);
    assert!(!project.join("report.html").exists());
}
