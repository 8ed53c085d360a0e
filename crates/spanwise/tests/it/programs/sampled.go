// Asks the sampling server as OpenTelemetry's sampler for Go does, and says whenever what it would record changes.
package main

import (
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/contrib/samplers/jaegerremote"
	"go.opentelemetry.io/otel/sdk/trace"
)

func main() {
	sampler := jaegerremote.New("shop",
		jaegerremote.WithSamplingServerURL(os.Getenv("SAMPLING")+"/sampling"),
		jaegerremote.WithSamplingRefreshInterval(50*time.Millisecond),
		jaegerremote.WithInitialSampler(trace.NeverSample()))
	records := func(name string) bool {
		result := sampler.ShouldSample(trace.SamplingParameters{Name: name})
		return result.Decision == trace.RecordAndSample
	}
	said := ""
	for {
		now := fmt.Sprintf("SAMPLES %t %t", records("GET /"), records("GET /rare"))
		if now != said {
			fmt.Println(now)
			said = now
		}
		time.Sleep(20 * time.Millisecond)
	}
}
