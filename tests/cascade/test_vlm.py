"""The vision-language judge on a tiny random LLaVA, built, saved and loaded as a published one would be."""

import pytest

from cascade.contracts import Candidate, ConfigError, WeightsError
from cascade.plugins import build_plugin
from cascade.testing.scenes import tabletop_observation, tabletop_plan

transformers = pytest.importorskip("transformers")
WORDS = [
    "<unk>",
    "<pad>",
    "<image>",
    "Yes",
    "No",
    "These",
    "pictures",
    "show",
    "a",
    "robot",
    "plan",
    "to",
    "carry",
    ".",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    path = tmp_path_factory.mktemp("vlm")
    words = Tokenizer(WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", additional_special_tokens=["<image>"]
    )
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    text = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=2, vision_feature_layer=-1, image_seq_length=4
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(path)
    size = {"height": 16, "width": 16}
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size)
    LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(path)
    return path


def test_it_answers_with_a_probability_that_depends_on_picture_and_words(folder):
    judge = build_plugin("scorer", "vlm", {"model": str(folder), "question": "show a robot plan to {instruction}"})
    observation = tabletop_observation()
    plan = tabletop_plan(observation)
    still = type(plan)(
        instruction=plan.instruction,
        camera=plan.camera,
        transform=plan.transform,
        frames=plan.frames[:1].repeat(2, axis=0) // 4,
    )
    scores = judge.score([Candidate(plan=p, chunk=None) for p in (plan, still, plan)], observation)
    assert all(0 < score < 1 for score in scores)
    assert scores[0] == pytest.approx(scores[2])
    assert scores[0] != pytest.approx(scores[1], abs=1e-7)
    other = build_plugin("scorer", "vlm", {"model": str(folder), "question": "Yes {instruction} No"})
    assert other.score([Candidate(plan=plan, chunk=None)], observation)[0] != pytest.approx(scores[0], abs=1e-7)
    assert judge.measure.higher_is_better


def test_mistakes_are_told_in_one_sentence(folder, tmp_path):
    with pytest.raises(ConfigError, match="model"):
        build_plugin("scorer", "vlm", {})
    with pytest.raises(WeightsError, match="image-text-to-text"):
        build_plugin("scorer", "vlm", {"model": str(tmp_path)})
    with pytest.raises(ConfigError, match="instruction"):
        build_plugin("scorer", "vlm", {"model": str(folder), "question": "done?"})
    with pytest.raises(ConfigError, match="same token"):
        build_plugin("scorer", "vlm", {"model": str(folder), "yes": "Yes", "no": "Yes"})
