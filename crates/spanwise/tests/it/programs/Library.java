import java.net.URI;
import java.util.Map;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.context.ServletWebServerInitializedEvent;
import org.springframework.context.event.EventListener;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.client.RestTemplate;
import redis.clients.jedis.Jedis;

/** Spring Boot with a database and Redis: what is asked of it asks them, and itself. */
@EnableAutoConfiguration
@RestController
public class Library {
    private static final Logger LOG = LoggerFactory.getLogger(Library.class);
    private final JdbcTemplate database;
    private final RestTemplate client = new RestTemplate();
    private int port;

    Library(JdbcTemplate database) {
        this.database = database;
        database.execute("create table books (id int, title varchar(80))");
    }

    public static void main(String[] arguments) {
        SpringApplication application = new SpringApplication(Library.class);
        application.setDefaultProperties(Map.of(
                "server.port", "0", "server.address", "127.0.0.1", "spring.main.banner-mode", "off",
                "logging.level.root", "warn", "logging.level.Library", "info",
                "logging.pattern.console", "%msg trace_id=%X{trace_id}%n"));
        application.run(arguments);
    }

    @EventListener
    void started(ServletWebServerInitializedEvent event) {
        port = event.getWebServer().getPort();
        System.out.println("PORT " + port);
    }

    @GetMapping("/books/{id}")
    String book(@PathVariable("id") int id) {
        LOG.info("book {}", id);
        database.update("insert into books values (?, 'Walden')", id);
        try (Jedis redis = new Jedis(URI.create(System.getenv("REDIS_URL")))) {
            redis.set("lent", "1");
        }
        return client.getForObject("http://127.0.0.1:" + port + "/titles/" + id, String.class);
    }

    @GetMapping("/titles/{id}")
    String title(@PathVariable("id") int id) {
        return database.queryForObject("select title from books where id = ? limit 1", String.class, id);
    }

    @GetMapping("/broken")
    String broken() {
        throw new IllegalStateException("no such book");
    }
}
