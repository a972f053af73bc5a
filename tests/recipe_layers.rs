//! Layers, sweeps and defaults of recipes, over real files.

mod project;
mod sources;

use orchestrate::plan::Plan;
use orchestrate::recipe::spec::{CptSpec, GrpoSpec, Length, Scope, Work};
use orchestrate::recipe::{Device, LoadedRecipe, Overrides, ResolvedVariant};
use project::Project;
use regex::Regex;
use sources::rust_files;
use std::collections::{BTreeMap, BTreeSet};

const MODEL: &str = "[model]\npath = \"models/tiny\"\n";
const CPT: &str = "[data.text]\npath = \"data/cpt.txt\"\n[stages.cpt]\nkind = \"cpt\"\ndata = \"text\"\n";
const GRPO: &str = r#"
[data.mcq]
path = "data/mcq.jsonl"
prompt = "{{ question }}"
reference = "{{ explanation }}"
answer = "{{ answer }}"
[stages.grpo]
kind = "grpo"
after = "cpt"
data = "mcq"
steps = 10
[stages.grpo.rewards.semantic]
encoder = "models/encoder"
[stages.grpo.rewards.correctness]
"#;

fn project(recipe: &str) -> Project {
    let project = Project::new();
    project.write("recipe.toml", recipe);
    project
}

fn load_with(project: &Project, overrides: &Overrides) -> LoadedRecipe {
    let loaded = project.load(&["recipe.toml"], overrides);
    loaded.unwrap_or_else(|error| panic!("{}", error.render(100, false))).remove(0)
}

fn load(recipe: &str) -> LoadedRecipe {
    load_with(&project(recipe), &Overrides::default())
}

fn messages(recipe: &str, overrides: &Overrides) -> Vec<String> {
    let error = project(recipe).load(&["recipe.toml"], overrides).expect_err("the recipe is not valid");
    error.problems().iter().map(|problem| problem.message.clone()).collect()
}

fn cpt(variant: &ResolvedVariant) -> &CptSpec {
    match &variant.stages.iter().find(|stage| stage.name == "cpt").expect("there is a cpt stage").spec.work {
        Work::Cpt(spec) => spec,
        other => panic!("not cpt but {}", other.kind()),
    }
}

fn grpo(variant: &ResolvedVariant) -> &GrpoSpec {
    match &variant.stages.iter().find(|stage| stage.name == "grpo").expect("there is a grpo stage").spec.work {
        Work::Grpo(spec) => spec,
        other => panic!("not grpo but {}", other.kind()),
    }
}

fn names(recipe: &LoadedRecipe) -> Vec<&str> {
    recipe.variants.iter().map(|variant| variant.name.as_str()).collect()
}

#[test]
fn defaults_are_written_out() {
    let recipe = load(&format!("{MODEL}{CPT}{GRPO}"));
    assert_eq!(recipe.name, "recipe", "named after its file");
    let spec = cpt(&recipe.variants[0]);
    assert_eq!((spec.length, spec.optimizer.lr), (Length::Epochs(1.0), 1e-4));
    let spec = grpo(&recipe.variants[0]);
    assert_eq!((spec.group_size, spec.optimizer.lr, spec.loss.kl_coef), (8, 1e-5, 0.0));
    assert_eq!((spec.loss.clip_low, spec.loss.clip_high, spec.sampling.temperature), (0.2, 0.2, 1.0));
    assert_eq!(spec.rewards["semantic"].scope, Scope::Explanation);
    assert_eq!(spec.rewards["correctness"].scope, Scope::Answer);
    assert!(
        recipe.variants[0].stages[0].spec.model.as_ref().expect("a model").lora.is_none(),
        "adapters are asked for"
    );
    assert_eq!((recipe.runtime.device, recipe.runtime.keep_resume_points), (Device::Auto, 2));
}

#[test]
fn an_empty_lora_table_means_the_default_adapter() {
    let recipe = load(&format!("{MODEL}[model.lora]\n{CPT}"));
    let lora =
        recipe.variants[0].stages[0].spec.model.as_ref().expect("a model").lora.as_ref().expect("there are adapters");
    assert_eq!((lora.rank, lora.alpha, lora.target_modules.len()), (32, 64.0, 7));
    assert!(lora.target_modules.is_sorted());
}

#[test]
fn steps_take_the_place_of_the_default_epochs() {
    let recipe = load(&format!("{MODEL}{CPT}steps = 7\n"));
    assert_eq!(cpt(&recipe.variants[0]).length, Length::Steps(7));
}

#[test]
fn later_layers_win_key_by_key() {
    let project = project(&format!("extends = \"base/middle.toml\"\n{CPT}lr = 3.0\n"));
    project
        .write("base/middle.toml", "extends = \"lowest.toml\"\nname = \"middle\"\n[stages.cpt]\nlr = 2.0\neps = 2.0\n");
    project.write("base/lowest.toml", "name = \"lowest\"\nseed = 9\n[model]\npath = \"models/tiny\"\n[stages.cpt]\nlr = 1.0\neps = 1.0\nseq_len = 11\nsteps = 1\nweight_decay = 0.5\n");
    let overrides = Overrides {
        set: vec!["stages.cpt.steps=6".to_owned()],
        env: BTreeMap::from([
            ("ORCHESTRATE_STAGES__CPT__STEPS".to_owned(), "5".to_owned()),
            ("ORCHESTRATE_STAGES__CPT__WEIGHT_DECAY".to_owned(), "0.25".to_owned()),
            ("ORCHESTRATE_DB".to_owned(), "debug".to_owned()),
            ("HOME".to_owned(), "/".to_owned()),
        ]),
    };
    let recipe = load_with(&project, &overrides);
    assert_eq!(recipe.name, "recipe", "a base's name is not inherited");
    assert_eq!(recipe.variants[0].stages[0].spec.seed, 9);
    let spec = cpt(&recipe.variants[0]);
    assert_eq!(spec.seq_len, 11, "from the lowest file");
    assert_eq!(format!("{:?}", spec.optimizer.optimizer), "Adamw { betas: (0.9, 0.999), eps: 2.0 }", "the middle file");
    let rates = (spec.optimizer.lr, spec.optimizer.weight_decay);
    assert_eq!(rates, (3.0, 0.25), "from the recipe, from the environment");
    assert_eq!(spec.length, Length::Steps(6), "from --set");
    let files: Vec<_> = recipe.files.iter().map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(files, ["recipe.toml", "base/middle.toml", "base/lowest.toml"]);
}

#[test]
fn several_bases_lie_over_each_other_in_order_and_a_common_one_lies_once_below() {
    let project = project("extends = [\"grid.toml\", \"small.toml\"]\n[stages.cpt]\neps = 4.0\n");
    project.write(
        "grid.toml",
        "extends = \"common.toml\"\n[stages.cpt]\nkind = \"cpt\"\ndata = \"text\"\nlr = 1.0\neps = 1.0\n",
    );
    project.write("small.toml", "extends = \"common.toml\"\nname = \"small\"\n[stages.cpt]\nlr = 2.0\nsteps = 3\n");
    project.write(
        "common.toml",
        "[model]\npath = \"models/tiny\"\n[data.text]\npath = \"data/cpt.txt\"\n[stages.cpt]\nlr = 0.5\nseq_len = 11\nweight_decay = 0.5\n",
    );
    let recipe = load_with(&project, &Overrides::default());
    assert_eq!(recipe.name, "recipe");
    let spec = cpt(&recipe.variants[0]);
    assert_eq!((spec.seq_len, spec.length), (11, Length::Steps(3)));
    assert_eq!((spec.optimizer.lr, spec.optimizer.weight_decay), (2.0, 0.5), "the later base, the common one");
    assert!(format!("{:?}", spec.optimizer.optimizer).contains("eps: 4.0"), "the recipe itself");
    let files: Vec<_> = recipe.files.iter().map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(files, ["recipe.toml", "grid.toml", "common.toml", "small.toml"]);
}

#[test]
fn a_problem_in_a_base_is_shown_in_the_base() {
    let project = project(&format!("extends = \"base.toml\"\n{CPT}"));
    project.write("base.toml", "[model]\npath = \"models/tiny\"\n\n[stages.cpt]\nlr = -1.0\n");
    let error = project.load(&["recipe.toml"], &Overrides::default()).expect_err("a rate is positive");
    let place = error.problems()[0].place.as_ref().expect("it stands in a file");
    assert_eq!((place.source.name(), place.line_and_column()), ("base.toml", (5, 6)));
}

#[test]
fn set_values_are_toml_or_else_strings() {
    let project = project(&format!("{MODEL}{CPT}"));
    let set = ["runtime.device=cuda:1", "stages.cpt.betas=[0.5, 0.6]", "name=\"quoted\""].map(str::to_owned).to_vec();
    let recipe = load_with(&project, &Overrides { set, ..Overrides::default() });
    assert_eq!((recipe.runtime.device, recipe.name.as_str()), (Device::Cuda(1), "quoted"));
    assert!(format!("{:?}", cpt(&recipe.variants[0]).optimizer).contains("(0.5, 0.6)"));
}

#[test]
fn a_variant_can_do_without_a_reward_or_a_stage() {
    let sweep = "[[sweep.variants]]\nname = \"rouge\"\nunset = [\"stages.grpo.rewards.format\"]\n\
                 [[sweep.variants]]\nname = \"other\"\nset = { seed = 4 }\nunset = [\"stages.cpt\", \"stages.grpo\", \"stages.eval.after\"]\n";
    let eval = "[stages.eval]\nkind = \"eval\"\nafter = \"grpo\"\ndata = \"mcq\"\nrewards = { rouge = {} }\n";
    let recipe = load(
        &format!("{MODEL}{CPT}{GRPO}[stages.grpo.rewards.format]\n{eval}{sweep}")
            .replace("[data.mcq]", "[data.mcq]\neval_fraction = 0.5"),
    );
    let rewards = |variant: &ResolvedVariant| match &variant
        .stages
        .iter()
        .find(|stage| stage.name == "grpo")
        .unwrap()
        .spec
        .work
    {
        Work::Grpo(spec) => spec.rewards.keys().cloned().collect::<Vec<_>>(),
        other => panic!("not grpo but {}", other.kind()),
    };
    assert_eq!(names(&recipe), ["base", "rouge", "other"]);
    assert_eq!(rewards(&recipe.variants[0]).len(), rewards(&recipe.variants[1]).len() + 1);
    let stages: Vec<_> = recipe.variants[2].stages.iter().map(|stage| (stage.name.as_str(), stage.spec.seed)).collect();
    assert_eq!(stages, [("eval", 4)]);
}

#[test]
fn a_recipe_without_a_sweep_is_its_only_variant() {
    assert_eq!(names(&load(&format!("name = \"one\"\n{MODEL}{CPT}"))), ["one"]);
}

#[test]
fn a_matrix_names_its_variants_by_key_and_value() {
    let sweep = "[sweep]\nmatrix = { seed = [1, 2], \"stages.cpt.lr\" = [1e-5, 0.5] }\n";
    let recipe = load(&format!("{MODEL}{CPT}{sweep}"));
    assert_eq!(names(&recipe), ["seed=1,lr=1e-5", "seed=1,lr=0.5", "seed=2,lr=1e-5", "seed=2,lr=0.5"]);
    let variants: Vec<(u64, f64)> =
        recipe.variants.iter().map(|variant| (variant.stages[0].spec.seed, cpt(variant).optimizer.lr)).collect();
    assert_eq!(variants, [(1, 1e-5), (1, 0.5), (2, 1e-5), (2, 0.5)]);
}

#[test]
fn a_matrix_of_two_keys_with_one_ending_names_them_in_full() {
    let sweep = "[sweep]\nmatrix = { seed = [1], \"stages.cpt.seed\" = [2] }\n";
    assert_eq!(names(&load(&format!("{MODEL}{CPT}{sweep}"))), ["seed=1,stages.cpt.seed=2"]);
}

#[test]
fn a_variant_replaces_whole_tables_and_the_recipe_as_written_stays_a_variant() {
    let sweep = "[sweep]\nmatrix = { seed = [1, 2] }\n[[sweep.variants]]\nname = \"rouge\"\nset = { \"stages.grpo.rewards\" = { rouge = {}, correctness = {} } }\n";
    let recipe = load(&format!("name = \"semantic\"\n{MODEL}{CPT}{GRPO}{sweep}"));
    assert_eq!(names(&recipe), ["base,seed=1", "base,seed=2", "rouge,seed=1", "rouge,seed=2"]);
    let rewards = |index: usize| grpo(&recipe.variants[index]).rewards.keys().cloned().collect::<Vec<_>>();
    assert_eq!(rewards(0), ["correctness", "semantic"]);
    assert_eq!(rewards(2), ["correctness", "rouge"]);
}

#[test]
fn the_recipe_as_written_can_be_left_out_or_named() {
    let variants = "[[sweep.variants]]\nname = \"long\"\nset = { \"stages.cpt.steps\" = 9 }\n";
    let without = load(&format!("{MODEL}{CPT}[sweep]\nbase = false\n{variants}"));
    assert_eq!(names(&without), ["long"]);
    let named = load(&format!("{MODEL}{CPT}[sweep]\nbase_name = \"short\"\n{variants}"));
    assert_eq!(names(&named), ["short", "long"]);
}

#[test]
fn variants_share_the_stages_that_are_equal() {
    let sweep = "[[sweep.variants]]\nname = \"rouge\"\nset = { \"stages.grpo.rewards\" = { rouge = {} } }\n";
    let project = project(&format!("{MODEL}{CPT}{GRPO}{sweep}"));
    let plan = Plan::build(&[load_with(&project, &Overrides::default())]);
    assert_eq!(plan.stages.len(), 3, "one cpt, two grpo");
    assert_eq!(plan.stages[0].variants, ["recipe/base", "recipe/rouge"]);
    assert_eq!(plan.variants[1].stages, [("cpt".to_owned(), 0), ("grpo".to_owned(), 2)]);
    for (index, stage) in plan.stages.iter().enumerate() {
        assert!(stage.parents.iter().all(|parent| *parent < index));
        assert!(stage.inputs.values().all(|path| path.is_absolute() && path.exists()));
    }
}

#[test]
fn a_change_reaches_exactly_the_stages_below_it() {
    let recipe = format!("{MODEL}{CPT}{GRPO}");
    let project = project(&recipe);
    let keys = |set: &str| -> Vec<String> {
        let overrides = Overrides { set: vec![set.to_owned()], ..Overrides::default() };
        Plan::build(&[load_with(&project, &overrides)]).stages.iter().map(|stage| stage.key.to_string()).collect()
    };
    let before = keys("seed=0");
    let below = keys("stages.grpo.lr=0.5");
    assert_eq!(before[0], below[0]);
    assert_ne!(before[1], below[1]);
    let above = keys("stages.cpt.lr=0.5");
    assert!(before.iter().zip(&above).all(|(before, above)| before != above));
}

#[test]
fn patterns_name_all_their_files_once() {
    let recipe = load(&format!(
        "{MODEL}[data.text]\npath = [\"data/*.txt\", \"data/cpt.txt\"]\n[stages.cpt]\nkind = \"cpt\"\ndata = \"text\"\n"
    ));
    assert_eq!(cpt(&recipe.variants[0]).data[0].data.files.len(), 2);
}

#[test]
fn problems_of_all_recipes_are_told_at_once() {
    let project = project(&format!("{MODEL}{CPT}lrr = 1\n"));
    project.write("second.toml", &format!("{MODEL}{CPT}epoch = 1\n"));
    let error = project.load(&["recipe.toml", "second.toml"], &Overrides::default()).expect_err("both are wrong");
    let files: BTreeSet<String> = error
        .problems()
        .iter()
        .map(|problem| problem.place.as_ref().expect("each stands in a file").source.name().to_owned())
        .collect();
    assert_eq!(files, BTreeSet::from(["recipe.toml".to_owned(), "second.toml".to_owned()]));
    let json = error.to_json();
    assert_eq!((&json[0]["file"], &json[0]["line"], &json[0]["column"]), (&"recipe.toml".into(), &8.into(), &1.into()));
}

#[test]
fn two_recipes_of_one_name_are_refused() {
    let text = format!("name = \"same\"\n{MODEL}{CPT}");
    let project = project(&text);
    project.write("second.toml", &text);
    let error = project.load(&["recipe.toml", "second.toml"], &Overrides::default()).expect_err("names differ");
    assert_eq!(error.problems()[0].message, "two recipes are named `same`: `recipe.toml` and `second.toml`");
}

#[test]
fn a_recipe_that_is_not_there_is_an_error_without_a_caret() {
    let error = Project::new().load(&["none.toml"], &Overrides::default()).expect_err("there is none");
    assert_eq!(error.problems()[0].message, "cannot read the recipe `none.toml`: there is no such file");
    assert!(error.problems()[0].place.is_none());
}

#[test]
fn one_mistake_in_all_variants_is_reported_once() {
    let sweep = "[sweep]\nmatrix = { seed = [1, 2, 3] }\n";
    let found = messages(&format!("{MODEL}{CPT}after = \"none\"\n{sweep}"), &Overrides::default());
    assert_eq!(found, ["unknown stage `none`"]);
}

#[test]
fn an_override_that_a_variant_replaces_still_reaches_the_recipe_as_written() {
    let sweep = "[[sweep.variants]]\nname = \"rouge\"\nset = { \"stages.grpo.rewards\" = { rouge = {} } }\n";
    let project = project(&format!("{MODEL}{CPT}{GRPO}{sweep}"));
    let set = vec!["stages.grpo.rewards.semantic.weight=3".to_owned()];
    let recipe = load_with(&project, &Overrides { set, ..Overrides::default() });
    assert_eq!(Some(grpo(&recipe.variants[0]).rewards["semantic"].weight), Some(3.0));
}

#[test]
fn zipped_lists_go_together_and_multiply_with_the_rest() {
    let sweep = "[sweep]\nzip = { \"stages.cpt.lr\" = [1e-5, 0.5], \"stages.cpt.steps\" = [7, 8] }\nmatrix = { seed = [1, 2] }\n";
    let recipe = load(&format!("{MODEL}{CPT}{sweep}"));
    assert_eq!(
        names(&recipe),
        ["lr=1e-5,steps=7,seed=1", "lr=1e-5,steps=7,seed=2", "lr=0.5,steps=8,seed=1", "lr=0.5,steps=8,seed=2"]
    );
    let spec = cpt(&recipe.variants[2]);
    assert_eq!((spec.optimizer.lr, spec.length), (0.5, Length::Steps(8)));
}

#[test]
fn patterns_choose_variants_by_the_parts_of_their_names() {
    let variants = "[[sweep.variants]]\nname = \"long\"\nset = { \"stages.cpt.steps\" = 9 }\n";
    let with = |lines: &str| {
        let sweep = format!("[sweep]\nbase_name = \"short\"\nmatrix = {{ seed = [1, 2, 10] }}\n{lines}\n");
        names(&load(&format!("{MODEL}{CPT}{sweep}{variants}"))).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(with("include = [\"long\"]"), ["long,seed=1", "long,seed=2", "long,seed=10"]);
    assert_eq!(with("include = [\"seed=1\"]"), ["short,seed=1", "long,seed=1"], "10 is not 1");
    assert_eq!(with("exclude = [\"long,seed=1*\", \"short\"]"), ["long,seed=2"]);
    assert_eq!(with("include = [\"sh*\", \"seed=2\"]\nexclude = [\"short,seed=2\"]").len(), 3);
}

#[test]
fn a_whole_recipe_with_a_sweep_shares_what_its_variants_have_in_common() {
    let project = Project::new();
    project.write("recipe.toml", include_str!("recipes/ablation.toml"));
    let recipe = load_with(&project, &Overrides::default());
    let expected = ["base,seed=1", "base,seed=2", "rouge,seed=1", "rouge,seed=2"];
    assert_eq!(names(&recipe), expected);
    let plan = Plan::build(&[recipe]);
    // cpt and sft once for each seed, grpo and eval once for each variant.
    assert_eq!(plan.stages.len(), 2 + 2 + 4 + 4);
    for variant in &plan.variants {
        let stages: Vec<&str> = variant.stages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(stages, ["cpt", "sft", "grpo", "eval"]);
    }
}

/// A variable of the program that is missing from the list would be read as a key of the recipe.
#[test]
fn the_programs_own_variables_are_no_keys_of_a_recipe() {
    let quoted = Regex::new(r#""(ORCHESTRATE_[A-Z0-9_]+)""#).expect("the pattern is valid");
    let mut named = BTreeSet::from(["ORCHESTRATE_TEST_SEED".to_owned()]);
    for (_, text) in rust_files() {
        named.extend(quoted.captures_iter(&text).map(|found| found[1].to_owned()));
    }
    named.retain(|name| name.trim_end_matches('_') != "ORCHESTRATE" && !name.contains("__"));
    assert!(named.len() > 5, "too few were found: {named:?}");
    let env: BTreeMap<String, String> = named.into_iter().map(|name| (name, "1".to_owned())).collect();
    let recipe = load_with(&project(&format!("{MODEL}{CPT}")), &Overrides { env, ..Overrides::default() });
    assert_eq!(names(&recipe).len(), 1);
}
