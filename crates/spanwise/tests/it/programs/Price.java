import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;

/** The price: the JDK's own HTTP server, which tells the audit. */
public class Price {
    private static final Logger LOG = LogManager.getLogger(Price.class);

    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        server.createContext("/price", exchange -> {
            try {
                HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("AUDIT_URL") + "/note")).build();
                client.send(request, HttpResponse.BodyHandlers.ofString());
            } catch (InterruptedException error) {
                throw new IOException(error);
            }
            LOG.info("price of {}", exchange.getRequestURI().getQuery());
            answer(exchange, "42");
        });
        server.createContext("/broken", exchange -> {
            throw new IllegalStateException("no price");
        });
        server.start();
        System.out.println("PORT " + server.getAddress().getPort());
    }

    private static void answer(HttpExchange exchange, String text) throws IOException {
        exchange.sendResponseHeaders(200, text.length());
        exchange.getResponseBody().write(text.getBytes());
        exchange.close();
    }
}
