// What .tools/prometheus/promtool is compiled from; go.sum pins it. A newer one: change the version here, remove go.sum, and
// `go build -mod=mod` with the flags of the Makefile.
module lectr/tools/prometheus

go 1.26.0

require github.com/prometheus/prometheus v0.313.5
