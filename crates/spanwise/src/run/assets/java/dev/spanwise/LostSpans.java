package dev.spanwise;

import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.autoconfigure.spi.AutoConfigurationCustomizer;
import io.opentelemetry.sdk.autoconfigure.spi.AutoConfigurationCustomizerProvider;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.trace.ReadWriteSpan;
import io.opentelemetry.sdk.trace.ReadableSpan;
import io.opentelemetry.sdk.trace.SpanProcessor;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Collection;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;

/** An extension of OpenTelemetry's Java agent: counts the spans that are not delivered, for `spanwise run`. */
public final class LostSpans implements AutoConfigurationCustomizerProvider {
    @Override
    public void customize(AutoConfigurationCustomizer customizer) {
        String notes = System.getenv("SPANWISE_RUN_NOTES");
        if (notes == null || System.getenv("SPANWISE_PROBE") != null) {
            return;
        }
        Count count = new Count(Paths.get(notes));
        customizer.addTracerProviderCustomizer((provider, config) -> provider.addSpanProcessor(new Ended(count)));
        customizer.addSpanExporterCustomizer((exporter, config) ->
                exporter.getClass().getName().contains(".otlp.") ? new Watched(exporter, count) : exporter);
    }

    /** Of one process. */
    private static final class Count {
        final LongAdder ended = new LongAdder();
        final AtomicLong delivered = new AtomicLong();
        final AtomicLong failed = new AtomicLong();
        private final Path notes;
        private Path file;
        private long told;

        Count(Path notes) {
            this.notes = notes;
        }

        synchronized void tell(long lost) {
            if (lost <= told) {
                return;
            }
            try {
                if (file == null) {
                    file = Files.createTempFile(notes, "lost-java-", "");
                }
                Files.write(file, Long.toString(lost).getBytes());
                told = lost;
            } catch (IOException | RuntimeException nobodyListens) {
                // The run has ended before this program did.
            }
        }
    }

    /** Counts what should be delivered. */
    private static final class Ended implements SpanProcessor {
        private final Count count;

        Ended(Count count) {
            this.count = count;
        }

        @Override
        public void onStart(Context parent, ReadWriteSpan span) {
        }

        @Override
        public boolean isStartRequired() {
            return false;
        }

        @Override
        public void onEnd(ReadableSpan span) {
            if (span.getSpanContext().isSampled()) {
                count.ended.increment();
            }
        }

        @Override
        public boolean isEndRequired() {
            return true;
        }
    }

    private static final class Watched implements SpanExporter {
        private final SpanExporter exporter;
        private final Count count;

        Watched(SpanExporter exporter, Count count) {
            this.exporter = exporter;
            this.count = count;
        }

        @Override
        public CompletableResultCode export(Collection<SpanData> spans) {
            int size = spans.size();
            CompletableResultCode result = exporter.export(spans);
            result.whenComplete(() -> {
                if (result.isSuccess()) {
                    count.delivered.addAndGet(size);
                } else {
                    count.tell(count.failed.addAndGet(size));
                }
            });
            return result;
        }

        @Override
        public CompletableResultCode flush() {
            return exporter.flush();
        }

        /** Comes after the last export: what a full queue dropped is lost as well. */
        @Override
        public CompletableResultCode shutdown() {
            count.tell(count.ended.sum() - count.delivered.get());
            return exporter.shutdown();
        }

        @Override
        public String toString() {
            return exporter.toString();
        }
    }
}
