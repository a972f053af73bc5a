//! References to stages in data sets: the key of what refers to a stage follows from the stage's key, never from a path.

mod project;

use orchestrate::plan::{Plan, PlannedStage};
use orchestrate::recipe::Overrides;
use orchestrate::recipe::spec::{DataFile, Work};
use project::Project;

const RECIPE: &str = r#"
seed = 1
[model]
path = "models/tiny"
[data.mcq]
path = "data/mcq.jsonl"
eval_fraction = 0.25
prompt = "{{ question }}"
reference = "{{ explanation }}"
[data.answers]
path = "stage:parent"
where = "reward > 0.5"
keep = "best 1 per question"
prompt = "{{ prompt }}"
completion = "{{ completion }}"
[data.guided]
path = "data/mcq.jsonl"
prompt = "{{ question }}"
reference = "{{ theirs }}"
join = { from = "stage:parent", field = "theirs" }
[stages.parent]
kind = "generate"
data = "mcq"
samples_per_question = 2
temperature = 1.0
[stages.parent.rewards.rouge]
[stages.sft]
kind = "sft"
data = "answers"
[stages.grpo]
kind = "grpo"
after = "sft"
data = "guided"
steps = 2
[stages.grpo.rewards.rouge]
[stages.eval]
kind = "eval"
after = "grpo"
data = "mcq"
[stages.eval.rewards.rouge]
"#;

fn plan(project: &Project, set: &[&str]) -> Result<Plan, String> {
    let overrides = Overrides { set: set.iter().map(ToString::to_string).collect(), ..Overrides::default() };
    let recipes = project.load(&["recipe.toml"], &overrides).map_err(|error| error.render(100, false))?;
    Ok(Plan::build(&recipes))
}

fn stage<'p>(plan: &'p Plan, name: &str) -> &'p PlannedStage {
    plan.stages.iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage `{name}`"))
}

fn project() -> Project {
    let project = Project::new();
    project.write("recipe.toml", RECIPE);
    project
}

#[test]
fn a_data_set_of_a_stage_has_the_stages_key_and_waits_for_it() {
    let project = project();
    let before = plan(&project, &[]).unwrap();
    let (parent, sft, grpo) = (stage(&before, "parent"), stage(&before, "sft"), stage(&before, "grpo"));
    let names = |stages: &[usize]| stages.iter().map(|&at| before.stages[at].name.clone()).collect::<Vec<_>>();
    assert_eq!((names(sft.checkpoints()), names(sft.data_stages())), (vec![], vec!["parent".to_owned()]));
    assert_eq!(names(grpo.checkpoints()), ["sft"]);
    assert_eq!(names(grpo.data_stages()), ["parent"]);
    assert!(sft.key_text.contains(parent.key.as_str()), "{}", sft.key_text);
    // another seed of the parent is another data set, and another step of training is not another parent
    let other = plan(&project, &["stages.parent.seed=9"]).unwrap();
    for name in ["parent", "sft", "grpo", "eval"] {
        assert_ne!(stage(&before, name).key, stage(&other, name).key, "{name}");
    }
    let other = plan(&project, &["stages.sft.epochs=2.0"]).unwrap();
    assert_eq!(parent.key, stage(&other, "parent").key);
    assert_ne!(grpo.key, stage(&other, "grpo").key);
}

#[test]
fn the_names_of_stages_and_data_sets_are_no_part_of_a_key() {
    let project = project();
    let before = plan(&project, &[]).unwrap();
    project.write("recipe.toml", &RECIPE.replace("parent", "teacher").replace("guided", "taught"));
    let after = plan(&project, &[]).unwrap();
    for name in ["sft", "grpo", "eval"] {
        assert_eq!(stage(&before, name).key, stage(&after, name).key, "{name}");
    }
}

#[test]
fn answers_to_questions_of_an_evaluation_are_left_out_of_training_data() {
    let plan = plan(&project(), &[]).unwrap();
    let Work::Sft(sft) = &stage(&plan, "sft").spec.work else { panic!("it is one") };
    let data = &sft.data[0].data;
    assert!(matches!(data.files[..], [DataFile::Result { source: 0, .. }]));
    assert_eq!(data.selection.held_out.len(), 1);
    let held_out = &data.selection.held_out[0];
    assert!((held_out.eval_fraction - 0.25).abs() < f64::EPSILON, "{held_out:?}");
    assert!(matches!(held_out.files[..], [DataFile::File { .. }]));
}

#[test]
fn what_a_stage_does_not_write_is_refused_where_it_is_named() {
    let project = project();
    for (set, message) in [
        ("data.answers.path=stage:parnt", "unknown stage `parnt`"),
        ("data.answers.path=stage:parent/answers.csv", "a `generate` stage writes no `answers.csv`"),
        ("data.answers.path=stage:parent@5", "`stage:parent@5` names a snapshot"),
        ("data.answers.path=stage:Parent", "`stage:Parent` cannot be read"),
        ("data.answers.path=stage:sft", "the stages form a cycle"),
        ("data.guided.join.from=stage:sft", "`stage:sft` names a stage that writes no rows"),
        ("data.answers.keep=best of all", "`data.answers.keep` cannot be `best of all`"),
        ("data.mcq.keep=best 1 per question", "`data.mcq.keep` has no effect"),
        ("data.mcq.where=reward >", "`data.mcq.where` is not an expression"),
        ("stages.parent.temperature=0.0", "`stages.parent.samples_per_question` is 2"),
        ("stages.parent.judge=one", "the judge `one` has no address"),
        ("stages.eval.after=parent", "`eval` cannot start from `parent`"),
    ] {
        let error = plan(&project, &[set]).expect_err(set);
        assert!(error.contains(message), "{set}: {error}");
    }
}

#[test]
fn a_snapshot_is_a_stage_of_its_own_that_any_stage_can_start_from() {
    let project = project();
    let with = |set: &[&str]| plan(&project, set).unwrap_or_else(|error| panic!("{error}"));
    let before = with(&["stages.sft.steps=8"]);
    let after = with(&["stages.sft.steps=8", "stages.grpo.after=sft@4", "stages.sft.snapshots=[6]"]);
    let names: Vec<&str> = after.stages.iter().map(|stage| stage.name.as_str()).collect();
    let place =
        |name: &str| names.iter().position(|other| *other == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    assert_eq!(stage(&before, "sft").key, stage(&after, "sft").key, "what is kept changes no training");
    let snapshot = &after.stages[place("sft@4")];
    assert_eq!(snapshot.follows, Some(place("sft@6")), "the training writes the later ones too");
    assert_eq!(after.stages[place("sft@6")].follows, Some(place("sft")));
    assert_eq!((snapshot.spec.until, after.stages[place("grpo")].parents[0]), (Some(4), place("sft@4")));
    // the snapshot after the last step is the stage itself
    let last = with(&["stages.sft.steps=8", "stages.grpo.after=sft@8"]);
    assert_eq!(stage(&last, "grpo").key, stage(&before, "grpo").key);
}

#[test]
fn a_snapshot_that_cannot_be_is_refused_where_it_is_named() {
    let project = project();
    let steps = "stages.sft.steps=8";
    for (set, message) in [
        (vec!["stages.sft.snapshots=[2]"], "`stages.sft.snapshots` needs a number of steps"),
        (vec![steps, "stages.sft.snapshots=[9]"], "names step 9, but the stage has 8 steps"),
        (vec![steps, "stages.sft.snapshots={ every = 8 }"], "`stages.sft.snapshots.every` is 8"),
        (vec![steps, "stages.grpo.after=sft@9"], "names step 9, but the stage has 8 steps"),
        (vec!["stages.grpo.after=sft@4"], "which has no number of steps"),
        (vec!["stages.grpo.after=parent@4"], "which trains nothing"),
        (vec!["stages.eval.at=all"], "`stages.eval.at` is `all`, but `grpo` has no snapshots"),
        (vec!["stages.eval.at=last"], "`stages.eval.at` cannot be `last`"),
        (vec!["stages.grpo.updates_per_rollout=2", "stages.grpo.steps=4", "stages.eval.at=[3]"], "within a rollout"),
    ] {
        let error = plan(&project, &set).expect_err(&set.join(" "));
        assert!(error.contains(message), "{set:?}: {error}");
    }
}
