"""The formula that `auto` began with, for comparison: the same steps, English lists, words found within words."""

from collections.abc import Mapping

from lectr_extproc.core.auto import Score, Scoring, Tier
from lectr_extproc.core.conversation import Conversation


def _words(words: str) -> tuple[str, ...]:
    return tuple(words.split("|"))


ADVANCED = _words(
    "theorem|proof|lemma|induction|invariant|formal verification|np-hard|np-complete|eigenvalue|consensus|paxos|raft|"
    "byzantine|linearizab|eventual consistency|sharding|distributed system|microservices architecture|event sourcing|"
    "cap theorem|two-phase commit|quorum|race condition|deadlock|mutex|semaphore|lock-free|memory model|compiler|"
    "garbage collect|llvm|jit|abstract syntax tree|type inference|backpropagation|gradient descent|loss function|"
    "attention mechanism|transformer architecture|bayesian|eigenvector|stochastic|differential equation|cryptograph|"
    "elliptic curve|zero-knowledge|homomorphic|side-channel|exploit|buffer overflow|vulnerab|penetration test|"
    "reverse engineer|sql injection|dynamic programming|convex optimization|reinforcement learning|kernel"
)
EVERYDAY = _words(
    "function|class|variable|loop|array|string|object|method|import|debug|error|exception|code|script|python|javascript|"
    "typescript|java|react|html|css|sql|database|query|table|schema|api|endpoint|json|http|server|client|frontend|"
    "backend|docker|kubernetes|git|branch|merge|commit|deploy|test|pipeline|framework|library|package|algorithm|"
    "data structure|tree|queue|stack|hash|cache|thread|async|regex|refactor|machine learning|model|dataset"
)
REASONING = _words(
    "step by step|step-by-step|think through|reason|analyze|compare|contrast|trade-off|tradeoff|pros and cons|evaluate|"
    "consider|design|architect|review|audit|critique|explain why|explain how|why does|how does|what if|optimize|"
    "justify|prove|derive|implications|strategy|assess"
)


def score(conversation: Conversation, scoring: Scoring) -> Score:
    """The formula as it was written down first, with its known weaknesses."""
    signals = _signals(conversation, scoring)
    weighed = sum(scoring.weights[name] * signals[name] for name in signals) / 100
    points = min(100, round(0.6 * weighed + 0.4 * max(signals.values())))
    tier: Tier = "economy" if points <= 20 else "standard" if points <= 55 else "premium"
    return Score(points, tier, signals)


def _signals(conversation: Conversation, scoring: Scoring) -> Mapping[str, int]:
    messages = conversation.messages
    text = " ".join(message.text for message in messages).lower()
    users = [len(message.text) for message in messages if message.role == "user"]
    system = [len(message.text) for message in messages if message.role == "system"][:1]
    blocks = text.count("```") // 2
    spans = 0 if blocks else text.count("`") // 2
    lines = sum(any(mark in message.text for mark in ("def ", "import ", "();", "=> ")) for message in messages)
    advanced, everyday, reasoning = (sum(word in text for word in some) for some in (ADVANCED, EVERYDAY, REASONING))
    return {
        "code": _step(scoring.steps["blocks"], blocks)
        or _step(scoring.steps["spans"], spans)
        or _step(scoring.steps["code_messages"], lines),
        "terms": _step(scoring.steps["advanced"], advanced) or _step(scoring.steps["everyday"], everyday),
        "reasoning": _step(scoring.steps["reasoning"], reasoning),
        "system": _step(scoring.steps["system"], sum(system)),
        "depth": _step(scoring.steps["depth"], sum(message.role in {"user", "assistant"} for message in messages)),
        "tools": _step(scoring.steps["tools"], conversation.tool_calls + conversation.tool_results),
        "length": _step(scoring.steps["length"], max(users)),
    }


def _step(steps: tuple[tuple[int, int], ...], reached: int) -> int:
    return max((value for start, value in steps if reached >= start), default=0)
