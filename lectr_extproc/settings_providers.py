"""Providers, their models and prices in lectr.yaml: what may be written, and the values that it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.prices import Override
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.credential import Form
from lectr_extproc.core.inject import Asking
from lectr_extproc.core.pricing import UNITS
from lectr_extproc.core.tables import Known, Provider, Site
from lectr_extproc.core.upstream import Signing, Upstream
from lectr_extproc.settings_org import AzureSection, azure_site
from lectr_extproc.settings_types import Section, Url, unknown

Price = Annotated[Decimal | None, Field(ge=0, le=10**9, allow_inf_nan=False)]

Share = Annotated[Decimal | None, Field(ge=0, le=1, allow_inf_nan=False)]


class _Prices(Section):
    input: Price = Field(default=None, description="Cached input follows in proportion, unless it is given too.")
    output: Price = Field(default=None, description="Reasoning and audio follow in proportion.")
    cache_read: Price = Field(default=None, description="Input that came out of a cache.")
    cache_write: Price = Field(default=None, description="Input put into a cache.")
    cache_write_1h: Price = Field(default=None, description="Input put into a cache for an hour.")
    audio_input: Price = Field(default=None, description="Audio in the input.")
    audio_output: Price = Field(default=None, description="Audio in the output.")
    web_search: Price = Field(default=None, description="USD per thousand searches.")

    def prices(self) -> dict[str, Decimal]:
        """What is given, by its unit."""
        return {unit: price for unit in UNITS if (price := getattr(self, unit, None)) is not None}


def _with_an_id(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


class ModelSection(_Prices):
    """A model that belongs to a provider. Prices are in USD per million tokens; 0 is free."""

    id: str = Field(
        min_length=1, max_length=256, description="As clients write it, and as it is sent; letter case counts."
    )
    context_window: int | None = Field(default=None, gt=0, le=10**12, description="Tokens it reads at most.")


Model = Annotated[ModelSection, BeforeValidator(_with_an_id, json_schema_input_type=ModelSection | str)]


class SigningSection(Section):
    """Which AWS credentials Envoy signs calls with."""

    credentials_file: str | None = Field(
        default=None,
        pattern="^/",
        description="As Envoy sees it; read again when it is replaced. Default: what Envoy finds, as AWS's SDKs do: "
        "AWS_* variables, the shared file, a web identity, a container's or an instance's role.",
    )
    profile: str | None = Field(default=None, min_length=1, description="The section of credentials_file.")
    service: str | None = Field(
        default=None, min_length=1, description="What signatures name as the service. Default: bedrock."
    )

    @model_validator(mode="after")
    def _profiles_are_in_a_file(self) -> Self:
        if self.profile and not self.credentials_file:
            raise ValueError("name the credentials_file of the profile; Envoy's own search obeys AWS_PROFILE")
        return self


def _signing_section(value: object) -> object:
    return {} if value is True else None if value is False else value


Sign = Annotated[
    SigningSection | None, BeforeValidator(_signing_section, json_schema_input_type=bool | SigningSection | None)
]


def _provider(value: str) -> str:
    if value not in PROVIDERS:
        raise ValueError(unknown(value, PROVIDERS))
    return value


class ProviderSection(Section):
    """A provider of your own, or what is different here for one that lectr knows."""

    id: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$",
        max_length=64,
        description=f"One of {', '.join(PROVIDERS)}; or a new one, which X-Lectr-Provider and `id/model` then name.",
    )
    kind: Annotated[str, AfterValidator(_provider)] | None = Field(
        default=None,
        description="The known provider that a new one is like in everything not said here. Default: custom.",
    )
    name: str | None = Field(default=None, min_length=1, max_length=100, description="For people. Default: its id.")
    base_url: Url | None = Field(
        default=None,
        description="Its path, if it has one, replaces the provider's path prefix. Plain http is accepted.",
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z]+(-[a-z]+)+-\d+$",
        description="The AWS region of bedrock, or of one of its kind. Default: us-east-1.",
    )
    sign: Sign = Field(
        default=None,
        description="true: Envoy signs calls to bedrock with AWS credentials of its own (SigV4), and no client's key "
        "is passed on. A mapping says with which.",
    )
    auth: Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"] | None = Field(
        default=None, description="How the client's key is passed on. Default: as its kind does."
    )
    include_usage: bool | None = Field(
        default=None,
        description="Whether streams may be asked for usage (stream_options.include_usage). Default: as its kind.",
    )
    observe: Literal["auto", "native", "stream"] = Field(
        default="auto",
        description="Who reads token usage: Envoy (native), lectr (stream), or Envoy where that costs nothing (auto).",
    )
    models: list[Model] = Field(
        default_factory=list,
        description="Names that are its own, whatever else they look like; a name alone, or with more.",
    )


class PriceSection(_Prices):
    """A price or a discount of your own. Prices are in USD per million tokens; 0 is free."""

    provider: str = Field(description="One of lectr's, or of `providers:`.")
    model: str | None = Field(
        default=None, min_length=1, max_length=256, description="Default: a discount on every model of the provider."
    )
    discount: Share = Field(default=None, description="0.2 takes 20 % off whatever the price is.")
    from_: date | None = Field(default=None, alias="from", description="First day (UTC) on which it holds.")
    reason: str | None = Field(default=None, max_length=200, description="For people.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.model is None and self.prices():
            raise ValueError("name the model whose price this is")
        if self.discount is None and not self.prices():
            raise ValueError("write a price or a discount")
        return self


def provider_row(section: ProviderSection) -> Provider:
    row = PROVIDERS.get(section.id) or replace(
        PROVIDERS[section.kind or "custom"],
        id=section.id,
        name=section.id,
        synonyms=(),
        model_prefixes=(),
        key_shapes=(),
        shared_key_shapes=frozenset(),
        key_env=None,
    )
    asking = row.asking
    if section.include_usage is not None:
        asking = Asking.NEVER if not section.include_usage else Asking.YES if asking is Asking.NEVER else asking
    form = row.key_form if section.auth is None else _FORMS[section.auth]
    if section.region and row.region and row.base_url:
        row = replace(row, region=section.region, base_url=row.base_url.replace(row.region, section.region))
    return replace(row, name=section.name or row.name, key_form=form, asking=asking)


def signing_of(section: ProviderSection, rows: Mapping[str, Provider]) -> Signing | None:
    row, sign = rows[section.id], section.sign
    if sign is None or row.aws_service is None or row.region is None:
        return None
    return Signing(
        service=sign.service or row.aws_service,
        region=row.region,
        credentials_file=sign.credentials_file,
        profile=sign.profile,
    )


_FORMS = {
    "bearer": Form.BEARER,
    "x-api-key": Form.X_API_KEY,
    "api-key": Form.API_KEY,
    "x-goog-api-key": Form.X_GOOG_API_KEY,
    "none": Form.NONE,
}


def lineup_of(providers: Sequence[ProviderSection]) -> dict[tuple[str, str], Known]:
    """The catalogue's models and those of the settings, which are there whatever the catalogue says of their end."""
    own = {(section.id, model.id): model.context_window for section in providers for model in section.models}
    known = {key: LINEUP.get(key) or Known(key[1], None) for key in own}
    return {
        **LINEUP,
        **{key: replace(row, window=own[key] or row.window, retires=None, gone=False) for key, row in known.items()},
    }


def overrides(providers: Sequence[ProviderSection], prices: Sequence[PriceSection]) -> tuple[Override, ...]:
    """The later wins: `prices:` has the last word over what a model was registered with."""
    registered = {
        (section.id, model.id.lower()): own
        for section in providers
        for model in section.models
        if (own := model.prices())
    }
    return *(Override(provider=id_, model=model, prices=own) for (id_, model), own in registered.items()), *(
        Override(
            provider=section.provider,
            model=section.model,
            prices={**registered.get((section.provider, (section.model or "").lower()), {}), **section.prices()},
            discount=section.discount,
            since=section.from_,
            reason=section.reason,
        )
        for section in prices
    )


def site_of(row: Provider, url: str, signing: Signing | None) -> Site:
    """An address without a path keeps the path prefix that the provider, or else everyone, has: `/v1`."""
    if row.sited_per_org:
        return azure_site(row.id, url, AzureSection.model_fields["api_version"].default)
    upstream = replace(Upstream.parse(row.id, url), signing=signing)
    if not upstream.prefix and url != row.base_url:
        upstream = replace(upstream, prefix=row.prefix if row.base_url else "/v1")
    return Site(upstream=upstream)
