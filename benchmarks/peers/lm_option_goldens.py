"""Makes tests/golden/hf/lm_options: tiny language models with options of published configurations, and what transformers
computes with them, in the layout of the folders beside it (tests/golden/hf/README.md).

    PYTHON=$(benchmarks/peers/environment.sh transformers) && $PYTHON benchmarks/peers/lm_option_goldens.py FOLDER
"""

import copy
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

BATCH, LENGTH, STEPS = 3, 11, 10
BASE = dict(vocab_size=61, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, pad_token_id=None, bos_token_id=1, eos_token_id=2)
GPT2 = dict(vocab_size=61, n_embd=24, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2)
NEOX = dict(vocab_size=61, hidden_size=32, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=64, bos_token_id=1, eos_token_id=2)


def rope(rope_type, theta=10000.0, **options):
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": theta, **options}}


YARN = rope("yarn", factor=4.0, original_max_position_embeddings=16)
CASES = {  # folder: (class, options, dtype of the file)
    "gpt2_unscaled_relu": ("GPT2LMHeadModel", GPT2 | dict(scale_attn_weights=False, activation_function="relu"), None),
    "gpt2_by_layer_quick_gelu": ("GPT2LMHeadModel", GPT2 | dict(
        scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True, activation_function="quick_gelu", n_inner=28), "float16"),
    "llama_linear_rope": ("LlamaForCausalLM", BASE | rope("linear", factor=2.5), None),
    "llama_yarn_rope": ("LlamaForCausalLM", BASE | dict(head_dim=16) | YARN, None),
    "llama_yarn_options": ("LlamaForCausalLM", BASE | dict(head_dim=16) | rope(
        "yarn", theta=500.0, factor=8.0, original_max_position_embeddings=8, beta_fast=16, beta_slow=2, mscale=0.7,
        mscale_all_dim=1.3, truncate=False), None),
    "llama_yarn_factor_bf16": ("LlamaForCausalLM", BASE | dict(head_dim=16, hidden_act="relu") | rope(
        "yarn", factor=2.0, original_max_position_embeddings=32, attention_factor=1.7), "bfloat16"),
    "llama_float16_tied": ("LlamaForCausalLM", BASE | dict(hidden_act="quick_gelu", tie_word_embeddings=True), "float16"),
    "mistral_linear_rope": ("MistralForCausalLM", BASE | dict(head_dim=10, sliding_window=None, hidden_act="gelu") | rope(
        "linear", factor=4.0), None),
    "mistral_llama3_rope": ("MistralForCausalLM", BASE | dict(head_dim=10, sliding_window=6) | rope(
        "llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0, original_max_position_embeddings=16), None),
    "mixtral_window": ("MixtralForCausalLM", BASE | dict(
        head_dim=10, sliding_window=4, num_local_experts=4, num_experts_per_tok=1, intermediate_size=12,
        router_aux_loss_coef=0.2, tie_word_embeddings=True), None),
    "olmoe_clip_qkv": ("OlmoeForCausalLM", BASE | dict(
        clip_qkv=0.6, num_experts=5, num_experts_per_tok=2, norm_topk_prob=True, intermediate_size=12), None),
    "olmoe_bias": ("OlmoeForCausalLM", BASE | dict(
        attention_bias=True, num_experts=5, num_experts_per_tok=3, intermediate_size=12, hidden_act="gelu"), None),
    "qwen2_upper_windows": ("Qwen2ForCausalLM", BASE | dict(
        num_hidden_layers=4, use_sliding_window=True, sliding_window=4, max_window_layers=2), None),
    "qwen2_layer_types": ("Qwen2ForCausalLM", BASE | dict(
        num_hidden_layers=3, use_sliding_window=True, sliding_window=3, tie_word_embeddings=True,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"]), None),
    "qwen3_bias_window": ("Qwen3ForCausalLM", BASE | dict(
        head_dim=10, attention_bias=True, use_sliding_window=True, sliding_window=4, max_window_layers=1,
        hidden_act="gelu_new"), None),
    "qwen3_yarn_rope": ("Qwen3ForCausalLM", BASE | dict(head_dim=16) | YARN, None),
    "qwen3_moe_sparse_step": ("Qwen3MoeForCausalLM", BASE | dict(
        head_dim=8, num_hidden_layers=4, decoder_sparse_step=2, moe_intermediate_size=12, num_experts=6,
        num_experts_per_tok=2, norm_topk_prob=False, attention_bias=True), None),
    "qwen3_moe_window": ("Qwen3MoeForCausalLM", BASE | dict(
        head_dim=8, num_hidden_layers=3, mlp_only_layers=[0], moe_intermediate_size=12, num_experts=5,
        num_experts_per_tok=2, norm_topk_prob=True, use_sliding_window=True, sliding_window=4), None),
    "gpt_neox_no_bias_linear_rope": ("GPTNeoXForCausalLM", NEOX | dict(
        attention_bias=False, hidden_act="relu", tie_word_embeddings=True) | rope(
            "linear", theta=5000.0, factor=3.0, partial_rotary_factor=0.5), None),
    "gpt_neox_yarn_silu": ("GPTNeoXForCausalLM", NEOX | dict(use_parallel_residual=False, hidden_act="silu") | rope(
        "yarn", factor=4.0, original_max_position_embeddings=16, partial_rotary_factor=1.0), None),
}


def draw_weights(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn_like(p)
            if p.dim() > 1:
                p.copy_(0.35 * noise)
            elif "norm" in name.lower() or "ln_" in name:
                p.copy_(0.2 * noise + (1.1 if name.endswith("weight") else 0.1))
            else:
                p.copy_(0.2 * noise)


def published(config, given):
    """The same configuration with the keys of published files."""
    config = copy.deepcopy(config)
    config.pop("transformers_version", None)
    parameters = config.pop("rope_parameters", None)
    if parameters is not None:
        theta = parameters.pop("rope_theta")
        if config["model_type"] == "gpt_neox":
            config["rotary_emb_base"], config["rotary_pct"] = theta, parameters.pop("partial_rotary_factor")
        else:
            config["rope_theta"] = theta
        if parameters["rope_type"] == "linear":
            parameters["type"] = parameters.pop("rope_type")
        config["rope_scaling"] = None if parameters.get("rope_type") == "default" else parameters
    config["torch_dtype"] = config.pop("dtype")
    if "layer_types" not in given:
        config.pop("layer_types", None)
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    return config


class Golden:
    """Tensors and tolerances of one folder."""

    def __init__(self, model, seed, vocab, moe):
        self.model, self.exact, self.moe, self.vocab = model, copy.deepcopy(model).double(), moe, vocab
        self.random = torch.Generator().manual_seed(seed)
        self.tensors, self.runs, self.tolerance = {}, {}, {}

    def ids(self, rows, length):
        return torch.randint(3, self.vocab, (rows, length), generator=self.random)

    def put(self, name, value):
        self.tensors[name] = value.detach().clone().contiguous()

    def outputs(self, model, inputs, all_states):
        out = model(**inputs, output_hidden_states=True, use_cache=False, **({"output_router_logits": True} if self.moe else {}))
        states = out.hidden_states if all_states else out.hidden_states[-1:]
        named = {"logits": out.logits, "loss": out.loss} | {f"hidden.{i}": h for i, h in enumerate(states)}
        if self.moe:
            named |= {"aux_loss": out.aux_loss} | {f"router_logits.{i}": r for i, r in enumerate(out.router_logits)}
        keep = inputs.get("attention_mask")
        for name, value in named.items() if keep is not None else ():
            if value.dim() >= 2:
                kept = keep.unsqueeze(2) if value.dim() == 3 else keep.reshape(-1, 1)
                named[name] = torch.where(kept == 1, value, torch.zeros_like(value))
        return named

    def error_of_full(self):
        return max(row[1] for name, row in self.tolerance.items() if name.startswith("full.out.logits"))

    def forward(self, run, keep=None, positions=None):
        ids = self.ids(BATCH, LENGTH)
        labels = ids if keep is None else ids.masked_fill(keep == 0, -100)
        if positions is not None:  # the first token behind pads is predicted from an undefined state
            labels = labels.masked_fill(keep.cumsum(1) == 1, -100)
        inputs = {"input_ids": ids, "labels": labels, "attention_mask": keep, "position_ids": positions}
        inputs = {name: value for name, value in inputs.items() if value is not None}
        for name, value in inputs.items():
            self.put(f"{run}.in.{name}", value)
        values, exact = (self.outputs(m, inputs, keep is None) for m in (self.model, self.exact))
        for name, value in values.items():
            error = (value.double() - exact[name]).abs().max().item()
            if keep is not None:
                error = max(self.error_of_full(), error if error == error else 0.0)
            largest = value.abs().max().item()
            self.put(f"{run}.out.{name}", value)
            self.tolerance[f"{run}.out.{name}"] = [largest, error, max(10 * error, 1e-6 * largest, 1e-7)]
        self.runs[run] = {"kind": "lm", "options": {} if keep is None else {"hidden": False}}

    def greedy(self, run, lengths):
        for _ in range(300):
            ids = self.ids(len(lengths), max(lengths))
            keep = torch.stack([(torch.arange(max(lengths)) >= max(lengths) - n).long() for n in lengths])
            tokens, logits = self.decode(ids, keep)
            best = logits.topk(2).values
            margin = best[..., 0] - best[..., 1]
            if margin.min() > 2e-3:
                break
        else:
            raise SystemExit(f"{run}: no draw without near ties")
        self.put(f"{run}.in.input_ids", ids)
        if min(lengths) < max(lengths):
            self.put(f"{run}.in.attention_mask", keep)
        self.put(f"{run}.out.tokens", tokens)
        largest, error = logits.abs().max().item(), self.error_of_full()
        for name, value, factor in (("logits", logits, 1), ("margin", margin, 2)):
            self.put(f"{run}.out.{name}", value)
            self.tolerance[f"{run}.out.{name}"] = [largest, error, factor * max(10 * error, 4e-6 * largest)]
        self.runs[run] = {"kind": "lm_greedy", "options": {"new_tokens": STEPS}}

    @torch.no_grad()
    def decode(self, ids, keep):
        cache, tokens, logits = None, [], []
        for _ in range(STEPS):
            positions = (keep.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1]:]
            out = self.model(input_ids=ids, attention_mask=keep, position_ids=positions, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            logits.append(out.logits[:, -1])
            ids = logits[-1].argmax(-1, keepdim=True)
            tokens.append(ids[:, 0])
            keep = torch.cat([keep, torch.ones_like(ids)], 1)
        return torch.stack(tokens, 1), torch.stack(logits, 1)


def make(folder, name, seed, dtype, options):
    torch.manual_seed(seed)
    cls = getattr(transformers, name)
    moe = "num_experts_per_tok" in options
    model = cls(cls.config_class(**copy.deepcopy(options)))
    draw_weights(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(getattr(torch, dtype or "float32")).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    extra = {"experts_implementation": "eager"} if moe else {}
    model = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **extra).eval()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.published.json").write_text(json.dumps(published(config, options), indent=2, sort_keys=True) + "\n")

    golden = Golden(model, seed, options["vocab_size"], moe)
    golden.forward("full")
    left = torch.stack([(torch.arange(LENGTH) >= LENGTH - n).long() for n in (LENGTH, 5, 1)])
    golden.forward("left_pad", left, (left.cumsum(1) - 1).clamp(min=0))
    golden.forward("right_pad", torch.stack([(torch.arange(LENGTH) < n).long() for n in (LENGTH, 7, 2)]))
    golden.greedy("greedy", [7, 7])
    golden.greedy("greedy_left_pad", [8, 3])
    save_file(golden.tensors, folder / "golden.safetensors", metadata={
        "source": f"transformers {transformers.__version__}, torch {torch.__version__}; random weights, seed {seed}",
        "function": f"transformers.{name}.forward, from_pretrained(float32, attn_implementation=eager), eval()",
        "options": json.dumps({"runs": golden.runs}),
        "tolerance": json.dumps({"columns": ["max_abs", "float32_vs_float64", "suggested_atol"], "tensors": golden.tolerance})})
    print(folder.name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, (name, (architecture, options, dtype)) in enumerate(CASES.items()):
        make(pathlib.Path(sys.argv[1]) / name, architecture, 1000 + number, dtype, options)
