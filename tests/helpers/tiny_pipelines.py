"""Video pipelines of every family, of a size that a test builds in a second, with random weights."""

from __future__ import annotations

WORDS = ["<pad>", "</s>", "<unk>", "open", "close", "the", "door", "robot", "arm", "a", "fixed", "camera"]
TEXT = 32


def tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )


def text_encoder(kind="T5"):
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(WORDS), d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1
    )
    return getattr(transformers, f"{kind}EncoderModel")(config).eval()


def wan_vae(z=16, **more):
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=3,
        z_dim=z,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        **more,
    )


def wan_transformer(channels_in, channels_out, **more):
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels_in,
        out_channels=channels_out,
        text_dim=TEXT,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        **more,
    )


def flow_scheduler(**more):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**({"shift": 3.0} | more))


def wan21(**more):
    from diffusers import WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder("UMT5"),
        vae=wan_vae(),
        scheduler=flow_scheduler(),
        image_processor=clip_processor(),
        image_encoder=clip_vision(),
        transformer=wan_transformer(36, 16, image_dim=4, added_kv_proj_dim=24, **more),
    )


def wan21_flf():
    return wan21(pos_embed_seq_len=2 * 17)  # 16 patches and one class token of each image


def clip_vision():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=4,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        intermediate_size=16,
        patch_size=8,
    )
    return CLIPVisionModel(config).eval()


def clip_processor():
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(crop_size=32, size={"shortest_edge": 32})


def wan22_a14b():
    from diffusers import WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder("UMT5"),
        vae=wan_vae(),
        scheduler=flow_scheduler(),
        transformer=wan_transformer(36, 16),
        transformer_2=wan_transformer(36, 16),
        boundary_ratio=0.9,
    )


def wan22_ti2v():
    from diffusers import WanImageToVideoPipeline

    vae = wan_vae(
        48,
        in_channels=12,
        out_channels=12,
        is_residual=True,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.0] * 48,
        latents_std=[1.0] * 48,
    )
    return WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder("UMT5"),
        vae=vae,
        scheduler=flow_scheduler(),
        transformer=wan_transformer(48, 48),
        expand_timesteps=True,
    )


def ltx(name="LTXImageToVideoPipeline"):
    import diffusers

    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=TEXT,
    )
    vae = diffusers.AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return getattr(diffusers, name)(
        scheduler=flow_scheduler(), vae=vae, text_encoder=text_encoder(), tokenizer=tokenizer(), transformer=transformer
    )


def ltx_condition():
    return ltx("LTXConditionPipeline")


def cogvideox(**more):
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXImageToVideoPipeline,
        CogVideoXTransformer3DModel,
    )

    shape = {"sample_width": 8, "sample_height": 4, "sample_frames": 9, "patch_size": 2} | more
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=TEXT,
        num_layers=1,
        temporal_compression_ratio=4,
        max_text_seq_length=226,
        use_rotary_positional_embeddings=True,
        **shape,
    )
    vae = AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    return CogVideoXImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder(),
        vae=vae,
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(),
    )


def cogvideox10():
    return cogvideox(use_learned_positional_embeddings=True)


def cogvideox15():
    return cogvideox(patch_size_t=2, ofs_embed_dim=2, patch_bias=False, sample_width=8, sample_height=8)


class PermissiveGuardrail:
    """Stands where the guardrail of Cosmos stands, and counts."""

    texts = 0

    def to(self, device):
        return self

    def check_text_safety(self, prompt):
        type(self).texts += 1
        return True

    def check_video_safety(self, frames):
        return frames


def cosmos2():
    from diffusers import Cosmos2VideoToWorldPipeline, CosmosTransformer3DModel

    transformer = CosmosTransformer3DModel(
        in_channels=17,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=TEXT,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        patch_size=(1, 2, 2),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=False,  # with it the model needs torchvision
        extra_pos_embed_type=None,
    )
    return Cosmos2VideoToWorldPipeline(
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        transformer=transformer,
        vae=wan_vae(),
        scheduler=flow_scheduler(use_karras_sigmas=True),
        safety_checker=PermissiveGuardrail(),
    )


def cosmos25():
    import transformers
    from diffusers import Cosmos2_5_PredictBasePipeline, UniPCMultistepScheduler

    size = {"hidden_size": 16, "num_attention_heads": 2}
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 32,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2], "rope_type": "default"},
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 1,
        }
        | size,
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
    )
    words = tokenizer()
    words.chat_template = "{% for m in messages %}{{ m['content'][0]['text'] }} {% endfor %}"
    return Cosmos2_5_PredictBasePipeline(
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=words,
        transformer=cosmos2().transformer,
        vae=wan_vae(),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        safety_checker=PermissiveGuardrail(),
    )


def skyreels():
    """A pipeline class without a record of its own; its VAE and text encoder are those of Wan."""
    from diffusers import SkyReelsV2ImageToVideoPipeline, SkyReelsV2Transformer3DModel

    transformer = SkyReelsV2Transformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=36,
        out_channels=16,
        text_dim=TEXT,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        image_dim=4,
    )
    return SkyReelsV2ImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder("UMT5"),
        vae=wan_vae(),
        scheduler=flow_scheduler(),
        image_processor=clip_processor(),
        image_encoder=clip_vision(),
        transformer=transformer,
    )


def hunyuan():
    import diffusers
    import transformers

    transformer = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=2 * 4 + 1,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=False,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
        image_condition_type="latent_concat",
    )
    vae = diffusers.AutoencoderKLHunyuanVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        act_fn="silu",
        norm_num_groups=4,
        scaling_factor=0.476986,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
        mid_block_add_attention=True,
    )
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "hidden_size": 16}
    llava = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(vocab_size=32, pad_token_id=0, eos_token_id=1, bos_token_id=1, **small),
        vision_config=transformers.CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=16, **small),
        image_token_index=20,
        pad_token_id=0,
    )
    clip = transformers.CLIPTextConfig(
        vocab_size=32, projection_dim=8, pad_token_id=0, bos_token_id=0, eos_token_id=1, **(small | {"hidden_size": 8})
    )
    return diffusers.HunyuanVideoImageToVideoPipeline(
        text_encoder=transformers.LlavaForConditionalGeneration(llava).eval(),
        tokenizer=tokenizer(),
        transformer=transformer,
        vae=vae,
        scheduler=flow_scheduler(),
        text_encoder_2=transformers.CLIPTextModel(clip).eval(),
        tokenizer_2=tokenizer(),
        image_processor=clip_processor(),
    )


BUILDERS = {
    "wan21-i2v": wan21,
    "wan21-flf2v": wan21_flf,
    "wan22-i2v-a14b": wan22_a14b,
    "wan22-ti2v": wan22_ti2v,
    "ltx-i2v": ltx,
    "ltx-condition": ltx_condition,
    "cogvideox-i2v": cogvideox10,
    "cogvideox15-i2v": cogvideox15,
    "cosmos2-v2w": cosmos2,
    "cosmos25-predict": cosmos25,
    "hunyuan-i2v": hunyuan,
    "skyreels": skyreels,
}


# What a tiny model needs beyond its folder: smaller than any real video, and the names that real ones bring along.
TINY = {"width_px": 64, "num_frames": 9, "steps": 2}
OPTIONS = {
    "cogvideox-i2v": {"width_px": None},
    "cogvideox15-i2v": {"num_frames": 9},
    "cosmos25-predict": {"safety_checker": "tiny_pipelines:PermissiveGuardrail"},
    "cosmos2-v2w": {"safety_checker": "tiny_pipelines:PermissiveGuardrail"},
    "hunyuan-i2v": {
        "call": {
            "prompt_template": {
                "template": "{}",
                "crop_start": 0,
                "image_emb_len": 16,
                "image_emb_start": 5,
                "image_emb_end": 21,
            },
            "max_sequence_length": 40,
        }
    },
    "skyreels": {"adapter": {"num_frames": 97, "width_px": 960, "height_px": 544}},
}
