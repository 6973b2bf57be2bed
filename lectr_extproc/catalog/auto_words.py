"""WORDS: what `auto` takes for technical terms, for reasoning and for a simple task. Written 2026-11-21 for lectr.

One line, with those indented below it, is one thing whatever it is called: spellings, inflections and languages stand
side by side, between commas, in lower case, and count once. Accents are part of the spelling; hyphens and apostrophes
are spaces; a plural in -s needs no spelling of its own. Words that plain prose uses as well (`class`, `tree`, `proof`)
are the `*_IN_CONTEXT` lists: they count only beside code or a word that is technical on its own.
"""

from lectr_extproc.core.auto import Words

_ADVANCED = """
theorem, theorems, theorem prover, théorème, teorema, théorèmes, satz von, lehrsatz
lemma, lemmas, lemme, corollary
proof by induction, by induction, prove by induction, induktionsbeweis, vollständige induktion, vollständiger
  induktion, par récurrence, por inducción, por indução, per induzione
proof by contradiction, by contradiction, widerspruchsbeweis, par l absurde, por reducción al absurdo, por absurdo,
  per assurdo
prove that, prove the, proof that, prove or disprove, formal proof, beweise, beweisen sie, beweis dass, démontrer,
  démontrez, démontre que, prouver que, prouve que, demuestra que, demostrar que, demuestre que, prove que, demonstre
  que, dimostra che, dimostrare che, 证明, 証明, 증명
if and only if, iff, necessary and sufficient, genau dann wenn, si et seulement si, si y solo si, se e somente se, se
  e solo se, 当且仅当
counterexample, counter example, gegenbeispiel, contre exemple, contraejemplo, contraexemplo, controesempio
formal verification, formally verify, formale verifikation, vérification formelle, verificación formal, verifica
  formale
model checking, model checker, tla+, promela
coq, lean4, isabelle hol, agda, dafny
invariant, loop invariant, invariante, schleifeninvariante
dependent type
type theory, typentheorie, homotopy type
lambda calculus, lambda kalkül
category theory, monad transformer
np hard, np complete, np completeness, np schwer, np vollständig, np difficile, np completo, pspace, undecidable,
  undecidability
halting problem, turing machine, rice s theorem
approximation algorithm, approximation ratio, competitive ratio
amortized, amortised, amortized complexity, amortisiert, amortisierte
recurrence relation, master theorem, potential function
eigenvalue, eigenvalues, eigenvector, eigenwert, eigenwerte, valeur propre, valeurs propres, valor propio, valores
  propios, autovalor, autovalori
vector space, vektorraum, espace vectoriel, espacio vectorial, espaço vetorial, spazio vettoriale
hilbert space, banach space, hilbertraum, banachraum
metric space
compactness
homomorphism, isomorphism, homeomorphism, isomorphismus, diffeomorphism
abelian group, galois, finite field, noetherian, quotient group, abelsche gruppe, groupe abélien
topological space
manifold
homology, homotopy, cohomology
lebesgue, measure theory, sigma algebra, maßtheorie
almost surely, fast sicher
martingale, martingal
markov chain, markow kette, chaîne de markov, cadena de markov, catena di markov
stochastic process, brownian motion, stochastic calculus, stochastic volatility
partial differential equation, pde, navier stokes, differential equation, differentialgleichung, équation
  différentielle, ecuación diferencial, equação diferencial, equazione differenziale, 微分方程
laplace transform, fourier transform, laplace transformation, transformée de fourier, transformada de fourier,
  trasformata di fourier
convex optimization, convex optimisation
lagrangian, kkt conditions, duality gap, konvexe optimierung, optimisation convexe, optimización convexa
bounded convergence, uniformly convergent, uniform convergence, uniformly continuous, gleichmäßige konvergenz, cauchy
  sequence
hamiltonian
schrödinger equation, schrodinger equation
quantum field, density matrix
general relativity
perturbation theory
distributed system, distributed systems, distributed database, verteiltes system, verteilte systeme, verteilten
  systemen, système distribué, systèmes distribués, sistema distribuido, sistemas distribuidos, sistema distribuído,
  sistemas distribuídos, sistema distribuito, sistemi distribuiti, 分布式, 分散システム, 분산 시스템
paxos, raft, consensus protocol, consensus algorithm, leader election, konsensprotokoll, protocole de consensus,
  protocolo de consenso, 共识
byzantine, bft, byzantine fault, byzantinisch
linearizable, linearizability, linearisable, linearizability proof
serializable isolation, strict serializability, snapshot isolation
write skew, serialisierbarkeit
eventual consistency, eventually consistent, strong consistency, causal consistency, cap theorem, starke konsistenz,
  cohérence forte, cohérence à terme, consistencia eventual, consistencia fuerte, consistência eventual, consistenza
  eventuale
crdt, crdts, conflict free replicated, operational transformation
vector clock, lamport clock, happens before, logical clock
two phase commit, 2pc, saga pattern, distributed transaction, verteilte transaktion, transaction distribuée,
  transacción distribuida
exactly once, at least once
idempotency key, idempotent consumer, outbox pattern
event sourcing, cqrs, change data capture
sharding, shard key, resharding, consistent hashing, rebalancing, hot partition
split brain
quorum
network partition, fencing token, partition tolerance, netzwerkpartition
multi region, active active, three regions, five regions, across regions, drei rechenzentren, tres regiones, três
  regiões, tre regioni, trois régions, 跨地区, 三つの地域
failover, failover strategy, basculement, conmutación por error
disaster recovery, rto, rpo, 容灾
connection pool, free list, thread safe, thread safety, thread pool exhaustion
fsync, acknowledged write, durability guarantee, lost write
backpressure, load shedding
circuit breaker
thundering herd
tail latency, p99
zero downtime migration, zero downtime, migration strategy, strangler fig, sans interruption, ohne ausfallzeit, sin
  tiempo de inactividad
system design, system architecture, microservice architecture, systemarchitektur, systementwurf, architecture du
  système, arquitectura del sistema, arquitetura do sistema, architettura del sistema, 系统架构, システム設計
race condition, data race, wettlaufsituation, condition de concurrence, situation de compétition, condición de
  carrera, condição de corrida, 竞态
deadlock, deadlocks, livelock, priority inversion, verklemmung, interblocage, interbloqueo, stallo, 死锁
mutex, semaphore, futex, spinlock, condition variable, sperrfreie
lock free, wait free, compare and swap, cas loop, aba problem, hazard pointer, epoch based reclamation, rcu
memory model, memory ordering, memory barrier, acquire release, happens before relation, speichermodell, modèle
  mémoire, modelo de memoria
use after free, double free, buffer overflow, heap corruption, dangling pointer, undefined behavior, undefined
  behaviour, out of bounds write, pufferüberlauf, dépassement de tampon, desbordamiento de búfer
memory leak, heap dump, garbage collector, gc pause, speicherleck, fuite de mémoire, fuite mémoire, fuga de memoria,
  vazamento de memória, perdita di memoria
segfault, segmentation fault, core dump, stack corruption
cache coherence, false sharing, cache line, numa, branch prediction
register allocation, instruction selection, ssa form, llvm, intermediate representation, codegen, code generation
  pass, registerzuweisung
type inference, hindley milner, parser generator, abstract syntax tree, recursive descent, typinferenz, inférence de
  types
jit compiler, just in time compiler, compiler optimization, compiler optimisation, loop unrolling, vectorization, simd
borrow checker, lifetime annotation, ownership model, unsafe rust
kernel module, device driver, interrupt handler, context switch, page fault, tlb, ebpf, syscall
lsm tree, write ahead log, b+ tree, mvcc, query planner, query optimizer, two phase locking, skip list
backpropagation, backprop, rückpropagation, rétropropagation, retropropagación, retropropagação, 反向传播
gradient descent, stochastic gradient, vanishing gradient, gradientenabstieg, descente de gradient, descenso de
  gradiente, gradiente descendente, discesa del gradiente, 梯度下降
loss function, cross entropy, kl divergence, elbo, verlustfunktion, fonction de perte, función de pérdida, função de
  perda, 损失函数
self attention, attention head, attention mechanism, transformer architecture, positional encoding, kv cache, flash
  attention
variational inference, variational autoencoder
diffusion model, normalizing flow, score matching
bayesian inference, posterior distribution, mcmc, hamiltonian monte carlo, hierarchical model, bayes inferenz,
  inférence bayésienne, inferencia bayesiana
reinforcement learning, policy gradient, q learning, rlhf, bellman equation, bestärkendes lernen, apprentissage par
  renforcement, aprendizaje por refuerzo, 强化学习
covariance matrix, singular value decomposition, svd, principal component, low rank, kovarianzmatrix, matrice de
  covariance
instrumental variable
difference in differences
causal inference, confounding, regression discontinuity
propensity score, kausale inferenz, inférence causale, inferencia causal
elliptic curve, ecdsa, ed25519, elliptische kurve, courbe elliptique, curva elíptica
zero knowledge, zk snark, homomorphic encryption, multi party computation, secret sharing, divulgation nulle,
  conocimiento cero
public key cryptography, asymmetric encryption, key exchange, diffie hellman, forward secrecy, asymmetrische
  verschlüsselung, chiffrement asymétrique, cifrado asimétrico, criptografia assimétrica
cryptography, cryptographic, cryptanalysis, kryptographie, kryptografie, cryptographie, criptografía, criptografia,
  crittografia, 密码学
side channel, timing attack, seitenkanal
padding oracle, nonce reuse, nonce
replay attack, algorithm confusion, jwks
threat model, attack surface
privilege escalation, bedrohungsmodell, modèle de menace, modelo de amenazas, 威胁模型
remote code execution, rce
sql injection
cross site scripting, xss
csrf, ssrf, deserialization vulnerability, injection sql, inyección sql
exploit, exploits, zero day, rop chain, shellcode, heap spray, fuzzing, sandbox escape
penetration test
reverse engineering, malware analysis, disassembly, ghidra
vulnerability, vulnerabilities, schwachstelle, schwachstellen, sicherheitslücke, vulnérabilité, vulnérabilités,
  vulnerabilidad, vulnerabilidades, vulnerabilidade, vulnerabilità
dynamic programming, dynamische programmierung, programmation dynamique, programación dinámica, programação dinâmica,
  programmazione dinamica, 动态规划
max flow, min cut
bipartite matching, shortest path algorithm, topological sort
spanning tree, suffix automaton, segment tree
matroid, matroids, greedy choice
integer programming, linear programming, branch and bound, simplex method, ganzzahlige optimierung, programmation
  linéaire, programación lineal
indemnification, indemnify, indemnity, limitation of liability, consequential damages, haftungsbeschränkung,
  freistellung, limitation de responsabilité, indemnización
fiduciary duty, fiduciary, piercing the corporate veil, sorgfaltspflicht, devoir fiduciaire
governing law, choice of law, anwendbares recht
change of control
non compete, exclusivity clause
liquidated damages, most favoured nation, most favored nation, vertragsstrafe, clause de non concurrence
gdpr, dsgvo, rgpd, hipaa
standard contractual clauses, schrems, third country transfer, standardvertragsklauseln
data processing agreement, sub processor, data breach, auftragsverarbeitung
case law, statutory interpretation, summary judgment, estoppel, jurisprudence, jurisprudencia, giurisprudenza,
  rechtsprechung
transfer pricing, permanent establishment, withholding tax, betriebsstätte, prix de transfert, precios de
  transferencia
differential diagnosis, differentialdiagnose, diagnostic différentiel, diagnóstico diferencial, diagnosi differenziale
contraindication, contraindicated, kontraindiziert, contre indiqué, contraindicado, controindicato
pharmacokinetics, drug interaction, pharmakokinetik, wechselwirkungen, pharmacocinétique, gfr
empirical treatment, anticoagulated, warfarin, apixaban, comorbidity
discounted cash flow, dcf, terminal growth
wacc, cost of capital
option pricing, black scholes, implied volatility
value at risk, credit default swap, hedging
"""

_ADVANCED_IN_CONTEXT = """
proof, proofs, prove, proves, beweis, preuve, demostración, prova, dimostrazione
induction, induktion, récurrence, inducción, indução, induzione
consensus, konsens
replication, replica, replikation, réplication, replicación, replicação
consistency, isolation level, konsistenz, cohérence, consistencia
concurrency, concurrent, nebenläufigkeit, nebenläufig, concurrence, concurrencia, concorrência, concorrenza, 并发
compiler, compilers, compilador, compilateur, compilatore, 编译器
kernel
convergence, converge, konvergenz, convergencia, convergenza
entropy, entropie, entropía
gradient, gradients
cipher, ciphertext, plaintext
atomic, atomically, atomicity
lock contention, contention
complexity, time complexity, space complexity, zeitkomplexität, complexité, complejidad, complessità
scalability, scalable, high availability, fault tolerance, fault tolerant, skalierbar, skalierbarkeit, hochverfügbar,
  haute disponibilité, tolérance aux pannes, alta disponibilidad, alta disponibilidade, alta disponibilità
throughput, durchsatz, débit
latency, latenz, latence, latencia, latência, latenza
polynomial, polynomials, polynôme
continuous, differentiable, stetig, différentiable
attacker, attack vector, angreifer, attaquant, atacante
partition, partitions, partitioning
"""

_EVERYDAY = """
python, python3, pandas, numpy
javascript, typescript, node js, nodejs, es6
java spring, kotlin, jvm, maven, gradle
c++, c#, golang, rustc, cargo toml
php, laravel, ruby on rails, wordpress plugin
html, css, dom element, tailwind, svelte
react, reactjs, useeffect, usestate, nextjs, vue js, vuejs, angular
sql, postgres, postgresql, mysql, sqlite, mongodb, nosql, stored procedure
database, databases, datenbank, datenbanken, base de données, bases de données, base de datos, bases de datos, banco
  de dados, bancos de dados, database schema, 数据库, データベース, 데이터베이스
api, apis, rest api, endpoint, endpoints, graphql, grpc, webhook, schnittstelle
json, yaml, xml, csv, protobuf
algorithm, algorithms, algorithmus, algorithmen, algorithme, algorithmes, algoritmo, algoritmos, algoritmi, 算法,
  アルゴリズム, 알고리즘
regex, regexp, regular expression, regulärer ausdruck, expression régulière, expresión regular, expressão regular,
  espressione regolare, 正则表达式
docker, dockerfile, docker compose, containerize, containerise
kubernetes, k8s, kubectl, helm chart, terraform, ansible
aws, gcp, azure, s3 bucket, lambda function
git, github, gitlab, pull request, git rebase, merge conflict
ci cd, unit test, unit tests, pytest, jest, integration test, test coverage, modultest, test unitaire, tests
  unitaires, prueba unitaria, pruebas unitarias
debug, debugger, debugging, stack trace, stacktrace, traceback, débogage, déboguer, depurar, fehlersuche, 调试, デバッグ
exception, nullpointerexception, typeerror, valueerror, keyerror, syntaxerror, runtimeerror, valueexception,
  ausnahmefehler
refactor, refactoring, refaktorieren, refactoriser, refactorizar, refatorar, 重构
async await, asyncio, promise chain, callback, coroutine, event loop, multithreading, thread pool
recursion, recursive function, rekursion, récursif, recursiva, 递归
linked list, hash map, hashmap, binary tree, binary search, data structure, datenstruktur, structure de données,
  estructura de datos, estrutura de dados, struttura dati, 数据结构
object oriented, design pattern, dependency injection, entwurfsmuster
frontend, backend, full stack, front end, back end
http, https, websocket, tcp, dns, nginx, reverse proxy, cors
oauth, jwt, sso, access token, authentication, authentifizierung, authentification, autenticación, autenticação,
  autenticazione
linux, ubuntu, bash, shell script, cron job, crontab, powershell, systemd, ssh
cache invalidation, redis, memcached, kafka, rabbitmq, message queue, celery, elasticsearch
microservice, microservices, monolith, serverless, mikroservices
machine learning, neural network, scikit learn, pytorch, tensorflow, maschinelles lernen, apprentissage automatique,
  aprendizaje automático, aprendizado de máquina, apprendimento automatico, 机器学习, 機械学習
linear regression, logistic regression, random forest, overfitting, hyperparameter, confusion matrix, standard
  deviation, p value, hypothesis test
etl, data pipeline, data warehouse, dbt, bigquery, snowflake schema, airflow
foreign key, primary key, left join, inner join, group by, window function, fremdschlüssel, clé étrangère, clave
  foránea
orm, sqlalchemy, hibernate, prisma, django, flask, fastapi, express js, spring boot
source code, codebase, code base, quellcode, code source, código fuente, código fonte, codice sorgente, programming,
  programmieren, programmation, programación, programação, programmazione, 编程, 代码, プログラミング, コード
function call, return value, boolean, integer, fonction python, funktion in python
pivot table, vlookup, xlookup, excel formula, spreadsheet formula, tabla dinámica, tableau croisé
load balancer, autoscaling, observability, prometheus, grafana, opentelemetry
integral, derivative, equation, gleichung, équation, ecuación, equação, equazione, quadratic equation, matrix,
  determinant, trigonometry, ableitung, dérivée, derivada, derivata
probability, conditional probability, expected value, wahrscheinlichkeit, probabilité, probabilidad, probabilidade,
  probabilità
npm, pip install, webpack, vite, eslint, package json
encryption, encrypt, tls, ssl certificate, verschlüsselung, chiffrement, cifrado, criptografar
"""

_EVERYDAY_IN_CONTEXT = """
class, classes, klasse
test, tests
function, functions, funktion, fonction, función, função, funzione
tree, branch, branches
string, strings
array, arrays, list comprehension
object, objects
thread, threads
server, servers
table, column, rows
index, indexes
cache, caching, cached
stack, queue, heap
variable, variables
loop, loops, schleife, boucle, bucle
pointer, pointers
library, module, package, dependency
interface
query, queries, consulta
model, models
container, containers, cluster
deploy, deployment, deploying
pipeline, build, release
commit, merge, rebase
script, scripts
token, tokens
port, socket
schema, migration
type, types, generic
rust, swift, java, ruby, scala
bug, bugs, crash, crashes, error message, fehlermeldung, message d erreur, mensaje de error, mensagem de erro,
  messaggio d errore
performance, optimize, optimise, optimization, optimisation, optimieren, optimiser, optimizar, otimizar, ottimizzare
component, components, framework
timeout, retry, retries
"""

_REASONING = """
step by step, schritt für schritt, étape par étape, pas à pas, paso a paso, passo a passo, passo dopo passo,
  一步一步, 逐步, 一步步, ステップバイステップ, 단계별로
think through, think carefully, think hard, reason through, reason about, denke gründlich, denk gründlich, réfléchis,
  razona, ragiona, 仔细思考, よく考えて
explain, explains, explaining, why does, why is it that, why would, how come, erkläre, erklär, erklären sie,
  erläutere, warum funktioniert, warum ist, explique, expliquez, expliquer, explica, por qué falla, spiega, spiegami,
  解释, 説明して, 설명해, なぜ, 为什么, 왜
compare, compares, comparing, comparison, contrast, vergleiche, vergleich, vergleichen sie, gegenüberstellung,
  comparer, comparez, comparaison, compara, comparar, compare com, comparación, comparação, confronta, confronto, 比较,
  对比, 比較
trade off, trade offs, tradeoff, tradeoffs, abwägung, abwägen, zielkonflikt, compromis entre, ventajas y desventajas,
  vantagens e desvantagens, vantaggi e svantaggi, 权衡, トレードオフ
pros and cons, advantages and disadvantages, vor und nachteile, vorteile und nachteile, avantages et inconvénients,
  pro e contro, prós e contras, pros y contras, 优缺点
design a, design an, design the, design our, architect a, propose an architecture, propose a design, entwirf,
  entwerfe, entwerfen sie, conçois, concevez, concevoir, diseña, diseñar, diseñe, projete, projetar, progetta,
  progettare, 设计, 設計
prove, proves, prove it, derive, derivation, derive the, show that, deduce, beweise, beweisen, leite her, herleitung,
  zeige dass, démontrer, démontrez, démontre, montrer que, montrez que, demuestra, demostrar, deduce, demonstre,
  provar, mostre que, dimostra, dimostrare, 证明, 推导, 証明, 증명
analyze, analyse, analyzes, analyses the, analyzing, analysing, in depth analysis, analysiere, analysieren, analysez,
  analyser, analyse cette, analiza, analizar, analisar, analise, analizza, analizzare, 分析
evaluate, assess, assessment of, weigh up, weigh the, bewerte, bewerten sie, beurteile, évalue, évaluez, évaluer,
  evalúa, evaluar, avalie, avaliar, valutare, 评估, 評価
review this, review my, review our, review the, code review, peer review this, critique, überprüfe, prüfe, prüfen sie,
  relis, relisez, passe en revue, revisa, revisar, revise, revise o, rivedi, 审查, レビュー
audit, auditing, auditiere, auditer, auditar, security audit, sicherheitsaudit, audit de sécurité, 审计
justify, justification, justify your, begründe, begründen sie, begründung, justifie, justifiez, justifier, justifica,
  justifique, 说明理由
root cause, why it fails, find the bug, diagnose, ursache, ursachenanalyse, cause racine, cause profonde, causa raíz,
  causa raiz, 根本原因
implications, consequences of, ramifications, second order effects, folgen von, auswirkungen, implications de,
  implicaciones, implicações, implicazioni
edge case, edge cases, corner case, failure mode, failure modes, what could go wrong, grenzfälle, randfälle,
  sonderfälle, cas limites, casos límite, casos extremos, casos limite, casi limite, 边界情况
assumption, assumptions, assuming that, annahmen, hypothèses, suposiciones, premissas, ipotesi
strategy for, migration plan, roadmap for, plan for migrating, migrationsplan, plan de migration, plan de migración,
  plano de migração, piano di migrazione
implement, write a function, write a script, write a program, write a query, write a class, write the code, write
  code, write a python, write a bash, write a dockerfile, write unit tests, write tests, schreibe eine funktion,
  schreibe ein skript, schreibe ein programm, implementiere, écris une fonction, écris un script, écris une api,
  implémente, escribe una función, escribe un script, implementa, escreva uma função, escreva um script, implemente,
  scrivi una funzione, scrivi uno script, 写一个脚本, 写一个函数, 写代码, 实现, コードを書いて
fix it properly, how do i fix, how to fix, find the error, wie behebe ich, comment corriger, como corrigir, cómo
  corregir, como corregir, come correggere, 如何修复, 怎么修复
create a, create an, build a, build me, set up, setup guide, develop a, make me a, generate a, i need a function, i
  need a script, i need a python, i need a typescript, i want to build, erstelle, erstellen sie, baue, entwickle, ich
  brauche ein skript, ich brauche ein python, richte ein, crée, créez, développe, développez, crea, cree, desarrolla,
  crie, desenvolva, crea un, sviluppa, 创建, 做一个, 开发, 作成して, 作ってください, 만들어
teach me, walk me through, how does it work, how it works, how do they work, work inside, wie funktioniert, comment
  fonctionne, cómo funciona, como funciona, come funziona, 如何工作, 怎么工作, 仕組み
essay, blog post, grant application, business plan, training plan, travel plan, project plan, outline of, cover letter
  for, white paper, lesson plan, aufsatz, erörterung, geschäftsplan, trainingsplan, reiseplan, dissertation, plan d
  affaires, ensayo, plan de negocio, ensaio, plano de negócios, saggio, 论文, 文章大纲
fails with, does not start, won t start, permission denied, unable to resolve, throws an error, is undefined, keeps
  crashing, startet nicht, schlägt fehl, funktioniert nicht, ne démarre pas, échoue, no arranca, falla con, não
  funciona, non parte, 报错
what stands out, trend, trends, seasonal, seasonality, forecast, outlier, outliers, what went wrong, how can this
  happen, auffällig, tendance, tendencia, tendência, tendenza
optimal, optimality, lower bound, upper bound, worst case, optimale lösung, borne inférieure, cota inferior, limite
  inferiore, 最优
rigorous, rigorously, formally, streng formal, rigoureusement, rigoureux, rigurosamente, rigurosa, rigorosamente, 严格
"""

_SIMPLE = """
translate, translates, übersetze, übersetzen, traduis, traduisez, traduire, traduce, traduzca, traduzir, traduza,
  traduci, tradurre, traducir, 翻译, 翻譯, 翻訳, 번역
summarize, summarise, summarizes, summarises, sum up, tl dr, tldr, give me the gist, fasse, fass, zusammenfassen,
  résume, résumez, résumer, resume, resumir, resuma, riassumi, riassumere, 总结, 總結, 概括, 要約, 요약
proofread, correct the spelling, correct the grammar, fix the spelling, fix the grammar, fix grammar, fix typos, fix
  the typos, check the spelling, korrigiere, corrige, corrigez, corrija, correggi
rephrase, paraphrase, reword, rewrite this, rewrite the following, rewrite my, make this shorter, shorten, formuliere,
  umformulieren, reformule, reformulez, reformula, reescribe, reescreva, riscrivi
extract, pull out, extrahiere, extrahieren, extrais, extraire, extrae, extraer, extraia, estrai, 提取
classify, categorize, categorise, klassifiziere, klassifizieren, classe, classez, clasifica, clasificar, classifique,
  classifica, 分类
convert to bullet points, bullet points, turn this into, make a title, suggest a title, write a title, formatiere
"""

_ASKING = """
please, pls, can you, could you, would you, kindly, just, now, help me, i need you to, you, your task is to, your job
  is to, bitte, kannst du, können sie, s il te plaît, s il vous plaît, peux tu, pouvez vous, por favor, puedes,
  podrías, você pode, pode, per favore, puoi, hi, hello, hey, hallo, bonjour, hola, olá, ciao, 请, 請
"""

WORDS = Words(
    advanced=_ADVANCED,
    advanced_in_context=_ADVANCED_IN_CONTEXT,
    everyday=_EVERYDAY,
    everyday_in_context=_EVERYDAY_IN_CONTEXT,
    reasoning=_REASONING,
    simple=_SIMPLE,
    asking=_ASKING,
)
