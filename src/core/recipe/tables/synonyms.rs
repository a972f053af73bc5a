//! What other trainers call the keys of a recipe, for those who come from there.
//!
//! Sources: TRL 1.16 and older (`GRPOConfig`, `SFTConfig`, `ModelConfig` and the `TrainingArguments` of transformers),
//! the configuration reference of Axolotl, and verl's `ppo_trainer.yaml`.

/// The key of another trainer, the trainers that have it, the key here, and what is different.
type Synonym = (&'static str, &'static str, &'static str, &'static str);

/// Keys without a dot belong to the table where the other key was found, as far as it has them; the others to the
/// recipe. A name stands here as often as it means different keys of different tables.
const SYNONYMS: &[Synonym] = &[
    ("adam_beta1", "TRL", "betas", "a pair, `[0.9, 0.999]`"),
    ("adam_beta2", "TRL", "betas", "a pair, `[0.9, 0.999]`"),
    ("adam_epsilon", "TRL and Axolotl", "eps", ""),
    ("adapter", "Axolotl", "model.lora", "a table"),
    ("assistant_only_loss", "TRL", "train_on", "a list of roles"),
    ("base_model", "Axolotl", "model.path", ""),
    ("beta", "TRL", "kl_coef", ""),
    ("bf16", "TRL and Axolotl", "model.dtype", "`\"bfloat16\"`"),
    ("chat_template_path", "TRL", "model.chat_template", "a file"),
    ("clip_ratio", "verl", "clip_low", "and `clip_high`"),
    ("clip_ratio_high", "verl", "clip_high", ""),
    ("clip_ratio_low", "verl", "clip_low", ""),
    ("completion_only_loss", "TRL", "train_on", "a list of roles"),
    ("dataset_name", "TRL", "data.NAME.path", ""),
    ("dataset_text_field", "TRL", "data.NAME.text", "a template, for `cpt`"),
    ("datasets", "Axolotl", "data", "a table a data set, `[data.NAME]`"),
    ("entropy_coeff", "verl", "entropy_coef", ""),
    ("epsilon", "TRL", "clip_low", "and `clip_high`"),
    ("epsilon_high", "TRL", "clip_high", ""),
    ("generation_batch_size", "TRL", "prompts_per_step", "prompts of a rollout: divide by `num_generations`"),
    (
        "gradient_accumulation_steps",
        "TRL and Axolotl",
        "global_batch_size",
        "rows of a whole step, not a number of micro-batches",
    ),
    (
        "gradient_accumulation_steps",
        "TRL",
        "prompts_per_step",
        "prompts of a whole step, not a number of micro-batches",
    ),
    ("gradient_checkpointing", "TRL and Axolotl", "runtime.gradient_checkpointing", ""),
    ("importance_sampling_level", "TRL", "loss_type", "`\"gspo\"` for `\"sequence\"`"),
    ("kl_loss_coef", "verl", "kl_coef", ""),
    ("learning_rate", "TRL and Axolotl", "lr", ""),
    ("lora_alpha", "TRL, Axolotl and PEFT", "model.lora.alpha", ""),
    ("lora_dropout", "TRL, Axolotl and PEFT", "model.lora.dropout", ""),
    ("lora_r", "TRL and Axolotl", "model.lora.rank", ""),
    ("lora_target_modules", "TRL and Axolotl", "model.lora.target_modules", ""),
    ("loss_agg_mode", "verl", "loss_type", ""),
    ("lr_scheduler", "Axolotl", "schedule", ""),
    ("lr_scheduler_type", "TRL", "schedule", ""),
    ("mask_truncated_completions", "TRL", "mask_truncated", ""),
    ("max_completion_length", "TRL", "max_new_tokens", ""),
    ("max_length", "TRL", "seq_len", ""),
    ("max_prompt_length", "older TRL and verl", "max_prompt_tokens", "a longer prompt is an error"),
    ("max_response_length", "verl", "max_new_tokens", ""),
    ("max_seq_length", "older TRL", "seq_len", ""),
    ("max_steps", "TRL and Axolotl", "steps", ""),
    ("model_name_or_path", "TRL", "model.path", ""),
    ("multi_objective_aggregation", "TRL", "reward_aggregation", ""),
    ("n", "verl", "group_size", ""),
    ("norm_adv_by_std_in_grpo", "verl", "scale_rewards", ""),
    ("num_epochs", "Axolotl", "epochs", ""),
    ("num_epochs", "Axolotl", "steps", "there are no epochs here: each step draws prompts"),
    ("num_generations", "TRL", "group_size", ""),
    ("num_iterations", "TRL", "updates_per_rollout", "times `mini_batches`"),
    ("num_train_epochs", "TRL", "epochs", ""),
    ("num_train_epochs", "TRL", "steps", "there are no epochs here: each step draws prompts"),
    ("optim", "TRL", "optimizer", ""),
    ("per_device_eval_batch_size", "TRL", "batch_size", ""),
    ("per_device_train_batch_size", "TRL", "micro_batch_size", ""),
    ("ppo_epochs", "verl", "updates_per_rollout", ""),
    ("ppo_micro_batch_size_per_gpu", "verl", "micro_batch_size", ""),
    ("ppo_mini_batch_size", "verl", "mini_batches", "how many of them a step has, not how large they are"),
    ("r", "PEFT", "rank", ""),
    ("reward_funcs", "TRL", "rewards", "a table a component, `[stages.NAME.rewards.COMPONENT]`"),
    ("reward_weights", "TRL", "rewards", "each component has its `weight`"),
    ("sample_packing", "Axolotl", "packing", ""),
    ("save_steps", "TRL and Axolotl", "runtime.resume_interval_s", "seconds, not steps"),
    ("sequence_len", "Axolotl", "seq_len", ""),
    ("steps_per_generation", "TRL", "mini_batches", "divide by `gradient_accumulation_steps`"),
    ("train_batch_size", "verl", "prompts_per_step", ""),
    ("train_on_inputs", "Axolotl", "train_on", "a list of roles"),
    ("use_rslora", "TRL and PEFT", "rslora", ""),
    ("use_rslora", "TRL and PEFT", "model.lora.rslora", ""),
    ("val_set_size", "Axolotl", "data.NAME.eval_fraction", ""),
    ("warmup_ratio", "TRL and Axolotl", "warmup_steps", "steps, not a share of them"),
];

/// What `key` is called here, in words, if another trainer has it; `known` are the keys of the table where it was
/// found.
pub(in crate::recipe) fn synonym(key: &str, known: &[&str]) -> Option<String> {
    let is_here = |ours: &str| known.contains(&ours);
    let mut meant = SYNONYMS.iter().filter(|(theirs, ..)| *theirs == key);
    let (_, tools, ours, difference) = meant.find(|(_, _, ours, _)| ours.contains('.') || is_here(ours))?;
    let difference = if difference.is_empty() { String::new() } else { format!(" ({difference})") };
    Some(format!("`{key}` of {tools} is `{ours}` here{difference}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::schema;
    use std::collections::BTreeSet;

    #[test]
    fn a_name_means_the_key_of_the_table_it_stands_in() {
        let grpo = ["kl_coef", "betas", "steps", "group_size", "prompts_per_step"];
        assert_eq!(synonym("beta", &grpo).as_deref(), Some("`beta` of TRL is `kl_coef` here"));
        assert_eq!(
            synonym("num_train_epochs", &grpo).as_deref(),
            Some("`num_train_epochs` of TRL is `steps` here (there are no epochs here: each step draws prompts)")
        );
        assert_eq!(
            synonym("num_train_epochs", &["epochs", "steps"]).as_deref(),
            Some("`num_train_epochs` of TRL is `epochs` here")
        );
        assert_eq!(
            synonym("num_iterations", &["updates_per_rollout"]).as_deref(),
            Some("`num_iterations` of TRL is `updates_per_rollout` here (times `mini_batches`)")
        );
        assert_eq!(
            synonym("max_prompt_length", &["max_prompt_tokens"]).as_deref(),
            Some("`max_prompt_length` of older TRL and verl is `max_prompt_tokens` here (a longer prompt is an error)")
        );
        assert_eq!(synonym("num_generations", &["epochs"]), None);
        assert_eq!(
            synonym("bf16", &[]).as_deref(),
            Some("`bf16` of TRL and Axolotl is `model.dtype` here (`\"bfloat16\"`)")
        );
    }

    #[test]
    fn every_key_that_is_named_is_one() {
        let schema = schema();
        let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        let keys: BTreeSet<&str> = tables
            .filter_map(|table| table["properties"].as_object())
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect();
        for (theirs, _, ours, _) in SYNONYMS {
            for part in ours.split('.').filter(|part| *part != "NAME") {
                assert!(keys.contains(part), "{theirs} -> {ours}");
            }
        }
        assert!(SYNONYMS.is_sorted_by_key(|(theirs, ..)| *theirs));
    }
}
