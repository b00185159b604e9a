"""Load a model that scores pairs or classifies texts."""

from typing import Any, NamedTuple

import torch
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from gateway.engine import LoadFailed
from gateway_hf.embedding.load import is_causal
from gateway_hf.embedding.opening import ModelSite, TextModel, find_site, open_model
from gateway_hf.loading import checks as gate
from gateway_hf.loading import pretrained
from gateway_hf.scoring.activation import Activation, class_activation, pair_activation
from gateway_hf.scoring.pairs import EncoderReader, PairReader, QuestionReader
from gateway_hf.scoring.scorers import Classifier, YesOrNo, takes
from gateway_hf.settings import Settings
from gateway_hf.text.codec import backend

_CLASSIFIER = pretrained.ModelKind(AutoModelForSequenceClassification, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
_YES, _NO = "yes", "no"


class LoadedScorer(NamedTuple):
    """A model that makes numbers of pairs or texts. One without `labels` knows no classes."""

    opened: TextModel
    scorer: Classifier | YesOrNo
    reader: PairReader
    of_pair: Activation
    of_class: Activation
    labels: tuple[str, ...] = ()


def load(settings: Settings) -> LoadedScorer:
    """Load the model that the settings name; raise `LoadFailed`, in one line, where that can never work."""
    site = find_site(settings)
    return _load_causal(site, settings) if is_causal(site.source) else _load_classifier(site, settings)


def _load_classifier(site: ModelSite, settings: Settings) -> LoadedScorer:
    opened = open_model(site, _CLASSIFIER, settings)
    model, tokenizer = opened.model, opened.tokenizer
    # As sentence-transformers has it: no longer than the tokenizer says.
    limit = int(tokenizer.model_max_length)
    opened = opened._replace(window=min(opened.window, limit) if limit > 0 else opened.window)
    said: dict[str, Any] = gate.read_json(site.source.folder / "config.json", site.source.name)
    named: dict[int, str] = {int(number): str(name) for number, name in (model.config.id2label or {}).items()}
    labels = tuple(named.get(number, f"LABEL_{number}") for number in range(len(named)))
    typed = (
        "token_type_ids" in tokenizer.model_input_names
        and takes(model, "token_type_ids")
        and getattr(model.config, "type_vocab_size", 2) > 1
    )
    known = backend(tokenizer)
    known.no_truncation()
    known.no_padding()
    return LoadedScorer(
        opened,
        # Without this token a model that finds a text's end by it reads texts one by one.
        Classifier(model, model.config.get_text_config().pad_token_id),
        EncoderReader(known, vocabulary=opened.vocabulary, window=opened.window, typed=typed),
        pair_activation(site.source, said, labels=len(labels)),
        class_activation(said, labels=len(labels)),
        labels,
    )


def _load_causal(site: ModelSite, settings: Settings) -> LoadedScorer:
    opened = open_model(site, pretrained.CAUSAL, settings)
    known = backend(opened.tokenizer)
    yes, no = known.token_to_id(_YES), known.token_to_id(_NO)
    if yes is None or no is None:
        raise LoadFailed(f"the model '{site.source.name}' scores nothing: 'yes' and 'no' are no tokens of its own")
    return LoadedScorer(
        opened,
        YesOrNo(opened.model, yes, no, opened.padding),
        QuestionReader(known, window=opened.window),
        torch.sigmoid,
        torch.sigmoid,
    )
