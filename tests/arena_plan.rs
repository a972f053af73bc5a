//! Arenas in a plan: one stage for all variants of a recipe, its players, its key, and its number of judge calls.

mod project;

use orchestrate::plan::{Plan, PlannedStage, planned};
use orchestrate::recipe::Overrides;
use orchestrate::recipe::spec::{ArenaSpec, PlayerSpec, Work};
use orchestrate::report::{PlannedStatus, plan_tree};
use project::Project;

const RECIPE: &str = r#"
name = "players"
seed = 7

[model]
path = "models/tiny"
lora = {}

[data.mcq]
path = "data/mcq.jsonl"
eval_fraction = 0.25
prompt = "{{ question }}"
completion = "<answer>{{ answer }}</answer>"
reference = "{{ explanation }}"
answer = "{{ answer }}"

[stages.sft]
kind = "sft"
data = "mcq"

[stages.grpo]
kind = "grpo"
after = "sft"
data = "mcq"
steps = 10
[stages.grpo.rewards.rouge]

[stages.arena]
kind = "arena"
after = ["sft", "grpo"]
base = true
data = "mcq"
questions = 50
[stages.arena.judges.similarity]
encoder = "models/encoder"
[stages.arena.judges.panel]
kind = "judge"
judges = ["one", "two"]

[runtime.judges.one]
endpoint = "http://127.0.0.1:1/v1"
[runtime.judges.two]
endpoint = "http://127.0.0.1:1/v1"

[sweep]
base_name = "rouge"
matrix = { seed = [1, 2, 3] }
[[sweep.variants]]
name = "format"
set = { "stages.grpo.rewards" = { format = {} } }
"#;

fn plan_of(recipe: &str, set: &[&str]) -> Plan {
    let project = Project::new();
    project.write("players.toml", recipe);
    let overrides = Overrides { set: set.iter().map(ToString::to_string).collect(), ..Overrides::default() };
    let recipes = project.load(&["players.toml"], &overrides).unwrap_or_else(|e| panic!("{}", e.render(100, false)));
    Plan::build(&recipes)
}

fn arenas(plan: &Plan) -> Vec<&PlannedStage> {
    plan.stages.iter().filter(|stage| stage.name == "arena").collect()
}

fn arena(plan: &Plan) -> (&PlannedStage, &ArenaSpec) {
    let [stage] = arenas(plan)[..] else { panic!("one arena for all variants, but {}", arenas(plan).len()) };
    let Work::Arena(spec) = &stage.spec.work else { panic!("{}", stage.spec.work.kind()) };
    (stage, spec)
}

fn seeds(player: &PlayerSpec) -> Vec<Option<u64>> {
    let mut seeds: Vec<Option<u64>> = player.models.iter().map(|model| model.seed).collect();
    seeds.sort_unstable();
    seeds
}

#[test]
fn one_arena_has_the_stages_of_all_variants_as_players() {
    let plan = plan_of(RECIPE, &[]);
    let (stage, spec) = arena(&plan);
    assert_eq!(stage.variants.len(), 6, "all variants");
    assert!(plan.variants.iter().all(|variant| variant.stages.iter().any(|(name, _)| name == "arena")));
    assert_eq!(stage.parents.len(), 9, "sft of 3 seeds, grpo of 2 variants and 3 seeds");
    let keys: Vec<&str> = stage.parents.iter().map(|&parent| plan.stages[parent].key.as_str()).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    assert!(stage.parents.iter().all(|&parent| parent < plan.stages.len() - 1));
    let mut players: Vec<(&str, Vec<Option<u64>>)> =
        spec.players.iter().map(|player| (player.name.as_str(), seeds(player))).collect();
    players.sort_unstable();
    let all = || vec![Some(1), Some(2), Some(3)];
    let expected = [("base", vec![None]), ("grpo [format]", all()), ("grpo [rouge]", all()), ("sft", all())];
    assert_eq!(players, expected);
    for model in spec.models() {
        assert!(stage.inputs.contains_key(&model.model.files), "every model's files are known");
        assert_eq!(model.model.lora.is_some(), model.parent.is_some(), "an untrained model has no adapter");
        let parent = model.parent.map(|parent| plan.stages[stage.parents[parent]].spec.seed);
        assert_eq!(parent, model.seed, "a player's place is that of its stage");
    }
}

#[test]
fn a_variant_without_a_stage_sends_no_player_of_it() {
    let untrained = "[[sweep.variants]]\nname = \"untrained\"\nunset = [\"stages.sft\", \"stages.grpo\"]\n";
    let tuned = "[[sweep.variants]]\nname = \"tuned\"\nset = { \"stages.sft.lr\" = 0.5 }\nunset = [\"stages.grpo\"]\n";
    let plan = plan_of(&format!("{RECIPE}{untrained}{tuned}"), &[]);
    let (stage, spec) = arena(&plan);
    assert_eq!(stage.variants.len(), 12, "it is also of those who send nobody");
    assert_eq!(stage.parents.len(), 12, "sft of 3 seeds, another sft of 3 seeds, grpo of 2 variants and 3 seeds");
    let mut players: Vec<&str> = spec.players.iter().map(|player| player.name.as_str()).collect();
    players.sort_unstable();
    assert_eq!(players, ["base", "grpo [format]", "grpo [rouge]", "sft", "sft [tuned]"]);
}

#[test]
fn neither_the_order_of_variants_nor_a_sweep_over_seeds_changes_the_arenas_own_seed_and_key() {
    let plan = plan_of(RECIPE, &[]);
    assert_eq!(arena(&plan).0.spec.seed, 7, "the recipe's, not that of a cell");
    let turned = plan_of(&RECIPE.replace("[1, 2, 3]", "[3, 1, 2]"), &[]);
    assert_eq!(arena(&plan).0.key, arena(&turned).0.key);
    let fewer = plan_of(&RECIPE.replace("[1, 2, 3]", "[1, 2]"), &[]);
    assert_ne!(arena(&plan).0.key, arena(&fewer).0.key);
    let other = plan_of(RECIPE, &["stages.grpo.lr=3e-5"]);
    assert_ne!(arena(&plan).0.key, arena(&other).0.key, "players come in by their keys");
    let renamed = plan_of(RECIPE, &["name=another"]);
    assert_eq!(arena(&plan).0.key, arena(&renamed).0.key);
    assert_eq!(arena(&plan_of(RECIPE, &["stages.arena.seed=9"])).0.spec.seed, 9);
}

#[test]
fn seeds_can_be_players_of_their_own() {
    let plan = plan_of(RECIPE, &["stages.arena.pool_seeds=false"]);
    let (_, spec) = arena(&plan);
    assert_eq!(spec.players.len(), 10);
    let mut names: Vec<&str> = spec.players.iter().map(|player| player.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.contains(&"grpo [rouge,seed=2]") && names.contains(&"sft [seed=1]"), "{names:?}");
    names.dedup();
    assert_eq!(names.len(), 10);
}

#[test]
fn a_plan_shows_it_once_after_everything_else() {
    let plan = plan_of(RECIPE, &[]);
    let tree = plan_tree(&plan, &vec![PlannedStatus::default(); plan.stages.len()], 120, false);
    let lines: Vec<&str> = tree.lines().collect();
    let shown: Vec<&&str> = lines.iter().filter(|line| line.contains("arena")).collect();
    assert_eq!(shown.len(), 1, "{tree}");
    assert_eq!(*shown[0], *lines.last().expect("there are lines"), "{tree}");
    assert!(shown[0].starts_with("arena") && shown[0].trim_end().ends_with("all"), "{tree}");
}

#[test]
fn without_a_sweep_the_stages_of_the_one_variant_play() {
    let (recipe, _) = RECIPE.split_once("[sweep]").expect("the recipe sweeps");
    let plan = plan_of(recipe, &[]);
    let (stage, spec) = arena(&plan);
    let mut names: Vec<&str> = spec.players.iter().map(|player| player.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!((names, stage.parents.len()), (vec!["base", "grpo", "sft"], 2));
}

#[test]
fn a_plan_knows_how_much_judges_will_be_asked() {
    let calls =
        |set: &[&str]| planned(&arena(&plan_of(RECIPE, set)).0.spec.work).judge_calls().into_iter().collect::<Vec<_>>();
    // Three players of three models and one of one model; each pair of different players, in both orders.
    let all = 2 * 50 * (3 * 9 + 3 * 3);
    assert_eq!(calls(&[]), [("one".to_owned(), all), ("two".to_owned(), all)]);
    let adaptive = ["stages.arena.pairs=adaptive", "stages.arena.max_comparisons=100"];
    assert_eq!(calls(&adaptive)[0].1, 200);
}

#[test]
fn what_similarity_is_to_is_the_reference_where_there_is_one() {
    let compared = |recipe: &str| {
        let plan = plan_of(recipe, &[]);
        serde_json::to_value(&arena(&plan).0.spec).expect("a spec serializes")["work"]["arena"]["judges"]["similarity"]
            ["similarity"]["compare_with"]
            .clone()
    };
    assert_eq!(compared(RECIPE), "reference");
    let without = RECIPE
        .replace("reference = \"{{ explanation }}\"\n", "")
        .replace("[stages.grpo.rewards.rouge]", "[stages.grpo.rewards.correctness]");
    assert_eq!(compared(&without), "prompt");
}
