//! Tests of the engine and of both binaries together: golden values of other implementations, exact resume, and recipes
//! on a tiny model.

mod arena;
mod bad_input;
mod bfloat16;
mod binary;
mod changed_inputs;
mod control_arms;
mod credit;
mod curves;
mod data;
mod end_to_end;
mod evaluation;
mod few_launches;
mod generate;
mod getting_started;
mod golden;
mod golden_choice;
mod golden_classifier;
mod golden_encoder;
mod golden_grpo;
mod golden_optim;
mod grpo_gradients;
#[path = "../harness.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod harness;
mod interrupt;
mod judge;
mod learning;
mod model_commands;
mod packing;
mod parent_adapter;
mod probes;
mod project;
mod real_models;
mod resume;
mod reward_programs;
mod reward_shelf;
mod rollout;
mod score;
mod score_again;
#[allow(dead_code, reason = "tests of the judges themselves use more of it")]
#[path = "../judge/server.rs"]
mod scripted_judge;
mod self_test;
mod shared_prefix;
mod snapshots;
mod untrusted;
