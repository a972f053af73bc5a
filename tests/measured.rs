//! The measurements of evaluations: every component of the recipe on every variant, and whether the variant was
//! trained on it.

mod project;

use orchestrate::recipe::spec::{Component, EvalSpec, FormatSpec, Work};
use orchestrate::recipe::{LoadedRecipe, Overrides, ResolvedStage, Training, training_of};
use project::Project;
use std::collections::BTreeSet;

const RECIPE: &str = r#"
[model]
path = "models/tiny"

[data.mcq]
path = "data/mcq.jsonl"
eval_fraction = 0.1
prompt = "{{ question }}"
completion = "<think>{{ explanation }}</think><answer>{{ answer }}</answer>"
reference = "{{ explanation }}"
answer = "{{ answer }}"

[data.far]
path = "data/mcq.jsonl"
out_of_domain = true
prompt = "{{ question }}"
reference = "{{ explanation }}"
answer = "{{ answer }}"
options = "options"

[stages.sft]
kind = "sft"
data = "mcq"
steps = 4

[stages.grpo]
kind = "grpo"
after = "sft"
data = "mcq"
steps = 4
[stages.grpo.rewards.semantic]
weight = 2.0
encoder = "models/encoder"
[stages.grpo.rewards.cot]
weight = 0

[stages.eval]
kind = "eval"
after = "grpo"
data = "mcq"
rewards = "all"

[stages.eval_far]
kind = "eval"
after = "grpo"
data = "far"
[stages.eval_far.rewards.overlap]
kind = "rouge"

[sweep]
base_name = "semantic"
[[sweep.variants]]
name = "rouge"
set = { "stages.grpo.rewards" = { rouge = { weight = 0.5 }, right = { kind = "correctness", match = "exact" } } }
[[sweep.variants]]
name = "sft"
set = { "stages.eval.after" = "sft", "stages.eval_far.after" = "sft" }
unset = ["stages.grpo"]
"#;

fn load(recipe: &str) -> LoadedRecipe {
    let project = Project::new();
    project.write("recipe.toml", recipe);
    let loaded = project.load(&["recipe.toml"], &Overrides::default());
    loaded.unwrap_or_else(|error| panic!("{}", error.render(100, false))).remove(0)
}

fn stage<'a>(recipe: &'a LoadedRecipe, variant: &str, name: &str) -> (&'a ResolvedStage, &'a EvalSpec) {
    let variant = recipe.variants.iter().find(|cell| cell.name == variant).expect("the variant is there");
    let stage = variant.stages.iter().find(|stage| stage.name == name).expect("the stage is there");
    let Work::Eval(eval) = &stage.spec.work else { panic!("`{name}` is no evaluation") };
    (stage, eval)
}

fn names(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_component_of_the_recipe_is_measured_on_every_variant_and_marked() {
    let recipe = load(RECIPE);
    let found: Vec<(String, String)> = ["semantic", "rouge", "sft"]
        .iter()
        .map(|variant| {
            let (stage, eval) = stage(&recipe, variant, "eval");
            let measured: Vec<String> =
                eval.rewards.iter().map(|(name, spec)| format!("{name}*{}", spec.weight)).collect();
            let Component::Semantic(semantic) = &eval.rewards["semantic"].component else { panic!("semantic") };
            assert!(
                stage.inputs[&semantic.encoder].ends_with("models/encoder"),
                "{variant} knows where the encoder lies"
            );
            (measured.join(" "), names(&eval.trained))
        })
        .collect();
    let expected = [
        // The weights are those of the variant's own training, so that `total` is its training objective.
        ("correctness*0 cot*0 format_valid*0 right*0 rouge*0 semantic*2", "semantic"),
        ("correctness*0 cot*0 format_valid*0 right*1 rouge*0.5 semantic*0", "correctness right rouge"),
        ("correctness*0 cot*0 format_valid*0 right*0 rouge*0 semantic*0", ""),
    ];
    assert_eq!(found, expected.map(|(measured, trained)| (measured.to_owned(), trained.to_owned())));

    let (_, eval) = stage(&recipe, "rouge", "eval");
    assert_eq!(training_of(eval, "eval/accuracy"), Some(Training::Trained), "`right` rewards the same");
    assert_eq!(training_of(eval, "eval/reward/semantic"), Some(Training::HeldOut));
    assert_eq!(training_of(eval, "eval/reward/cot"), Some(Training::HeldOut), "its weight was 0 where it stood");
    assert_eq!(training_of(eval, "eval/perplexity"), None);
    let without = load(&RECIPE.replace("rewards = \"all\"\n", "text = \"mcq\"\n"));
    let (_, eval) = stage(&without, "semantic", "eval");
    assert_eq!(eval.rewards.keys().collect::<Vec<_>>(), ["correctness", "format_valid"], "`rewards` may be left out");
}

#[test]
fn a_control_arm_is_measured_as_all_others_are() {
    let controls = r#"
[[sweep.variants]]
name = "random"
set = { "stages.grpo.rewards" = { random = { weight = 2.0 } } }
[[sweep.variants]]
name = "shuffled"
set = { "stages.grpo.rewards.semantic.shuffle_references" = true }
"#;
    let recipe = load(&format!("{RECIPE}{controls}"));
    let plain = load(RECIPE);
    let key = |recipe: &LoadedRecipe| serde_json::to_value(&stage(recipe, "semantic", "eval").0.spec).unwrap();
    assert_eq!(key(&recipe), key(&plain), "controls change no other arm");
    for variant in ["random", "shuffled"] {
        let (_, eval) = stage(&recipe, variant, "eval");
        assert!(eval.rewards.values().all(|reward| !reward.is_control()), "{variant}");
        assert_eq!(
            eval.rewards.keys().map(String::as_str).collect::<Vec<_>>(),
            ["correctness", "cot", "format_valid", "right", "rouge", "semantic"]
        );
        assert_eq!(names(&eval.trained), "", "{variant} was trained on nothing that is measured");
    }
}

#[test]
fn components_that_an_evaluation_names_itself_are_marked_by_what_they_compute() {
    let recipe = load(RECIPE);
    for (variant, trained) in [("semantic", ""), ("rouge", "correctness overlap"), ("sft", "")] {
        let (_, eval) = stage(&recipe, variant, "eval_far");
        assert_eq!(names(&eval.trained), trained, "{variant}");
        assert_eq!(eval.rewards.keys().collect::<Vec<_>>(), ["correctness", "overlap"], "no form is known");
        assert_eq!((eval.data_set.as_str(), eval.out_of_domain), ("far", true));
        let options = eval.options.as_ref().expect("the data set has options");
        assert_eq!((options.options.as_str(), options.option.as_str()), ("options", "{{ option.letter }}"));
    }
}

#[test]
fn the_form_is_that_of_a_format_component_or_else_that_of_the_data_set() {
    let form = |recipe: &str| {
        let recipe = load(recipe);
        let (_, eval) = stage(&recipe, "semantic", "eval");
        let Component::Format(form) = &eval.rewards["format_valid"].component else { panic!("a form") };
        form.clone()
    };
    let tags = |form| match form {
        FormatSpec::Tags { tags, .. } => tags.join(" "),
        other => panic!("{other:?}"),
    };
    assert_eq!(tags(form(RECIPE)), "think answer");
    let pattern = "[stages.grpo.rewards.shape]\nkind = \"format\"\npattern = 'a+'\n[stages.grpo.rewards.cot]";
    let form = form(&RECIPE.replace("[stages.grpo.rewards.cot]", pattern));
    assert_eq!(form, FormatSpec::Pattern("a+".to_owned()));
}

#[test]
fn one_component_with_several_encoders_is_measured_by_each_of_them() {
    let swap = RECIPE.replace(
        "[[sweep.variants]]\nname = \"rouge\"",
        "[[sweep.variants]]\nname = \"other\"\nset = { \"stages.grpo.rewards.semantic.encoder\" = \"models/other\" }\n\
         [[sweep.variants]]\nname = \"rouge\"",
    );
    let recipe = load(&swap);
    let expected = [
        ("semantic", "semantic@encoder*2 semantic@other*0", "semantic@encoder"),
        ("other", "semantic@encoder*0 semantic@other*2", "semantic@other"),
        ("rouge", "semantic@encoder*0 semantic@other*0", "correctness right rouge"),
        ("sft", "semantic@encoder*0 semantic@other*0", ""),
    ];
    for (variant, measured, trained) in expected {
        let (stage, eval) = stage(&recipe, variant, "eval");
        let semantic = eval.rewards.iter().filter(|(name, _)| name.starts_with("semantic"));
        let found: Vec<String> = semantic.map(|(name, spec)| format!("{name}*{}", spec.weight)).collect();
        assert_eq!((found.join(" "), names(&eval.trained)), (measured.to_owned(), trained.to_owned()), "{variant}");
        for name in ["encoder", "other"] {
            let Component::Semantic(semantic) = &eval.rewards[&format!("semantic@{name}")].component else {
                panic!("semantic")
            };
            assert!(stage.inputs[&semantic.encoder].ends_with(format!("models/{name}")), "{variant}");
        }
    }
    let (_, eval) = stage(&recipe, "other", "eval");
    assert_eq!(training_of(eval, "eval/reward/semantic@encoder"), Some(Training::HeldOut));
    assert_eq!(training_of(eval, "eval/reward/semantic@other"), Some(Training::Trained));
}

#[test]
fn more_components_are_measured_without_weight_and_leave_the_others_as_they_are() {
    let more = RECIPE.replace(
        "rewards = \"all\"\n",
        "rewards = \"all\"\n[stages.eval.more_rewards.\"semantic@other\"]\nencoder = \"models/other\"\n\
         [stages.eval.more_rewards.length]\nmax_words = 9\ntolerance_words = 2\n",
    );
    let (plain, recipe) = (load(RECIPE), load(&more));
    for variant in ["semantic", "rouge", "sft"] {
        let (_, before) = stage(&plain, variant, "eval");
        let (stage, after) = stage(&recipe, variant, "eval");
        let added: Vec<&String> = after.rewards.keys().filter(|name| !before.rewards.contains_key(*name)).collect();
        assert_eq!(added, ["length", "semantic@other"]);
        assert!(before.rewards.iter().all(|(name, spec)| after.rewards[name] == *spec));
        assert_eq!((after.rewards["length"].weight, after.rewards["semantic@other"].weight), (0.0, 0.0));
        assert!(stage.inputs.values().any(|path| path.ends_with("models/other")));
        assert_eq!(before.trained, after.trained, "the encoder is another one, so it is held out");
    }
}
