"""Spanish: when a caller's words are a whole turn. Subjects are left out, so the verb's form is what shows a clause."""

from __future__ import annotations

from connector.turn.words.table import Words, counted, listed, patterns, phrases, words

_AUXILIARIES = words(
    """soy eres es somos son era eran fue fueron sería estoy está están estaba estaban estamos he has ha hemos han
    había habían habría hay tengo tiene tienen tenemos tenía puedo puede pueden podemos podría podrían podía quiero
    quiere quieren queremos quería quisiera debo debe deben voy va van vamos iba tendría gustaría hace haría"""
)
_ARTICLES = words(
    """el la los las un una unos unas mi mis tu tus su sus nuestro nuestra nuestros nuestras al del este esta estos
    estas ese esa esos esas cada cualquier algún ningún"""
)
_UNITS = tuple(
    listed(
        """cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis
        diecisiete dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis
        veintisiete veintiocho veintinueve"""
    )
)
_NUMBERS = counted(
    _UNITS,
    dict(zip(listed("treinta cuarenta cincuenta sesenta setenta ochenta noventa"), range(30, 100, 10), strict=True)),
    " y ",
) | {f"doble {word}": 2 * str(number) for number, word in enumerate(_UNITS[:10])}

SPANISH = Words(
    fillers=words("eh em ehm este hm hmm mm um ah"),
    backchannels=phrases(
        """
        mm hmm
        mhm
        hm
        ajá
        aja
        sí
        si
        vale
        ok
        okay
        claro
        ya
        ya veo
        entiendo
        de acuerdo
        bien
        muy bien
        bueno
        perfecto
        exacto
        exactamente
        entendido
        por supuesto
        """
    ),
    lead_ins=phrases("a ver\nasí que\npor ejemplo")
    | words("pues bueno entonces y pero oye mire mira o eh porque además"),
    answers=phrases(
        """
        sí
        vale
        ok
        okay
        claro
        claro que sí
        por supuesto
        de acuerdo
        exacto
        exactamente
        perfecto
        correcto
        muy bien
        está bien
        gracias
        muchas gracias
        muchísimas gracias
        por favor
        adiós
        hasta luego
        hasta pronto
        hasta mañana
        chao
        buen día
        que tenga un buen día
        igualmente
        perdón
        disculpe
        perdone
        eso es
        mhm
        ajá
        """
    ),
    wholes=phrases(
        """
        si
        no
        no gracias
        no muchas gracias
        no nada más
        no eso es todo
        no está bien
        no hace falta
        qué
        cómo
        quién
        cuándo
        dónde
        por qué
        cuánto
        cuántos
        cuál
        cuánto es
        eso es todo
        nada más
        nada
        ninguno
        yo también
        yo tampoco
        los dos
        las dos
        no lo sé
        no sé
        ni idea
        todavía no
        aún no
        ya está
        ahora no
        así es
        lo es
        sí lo es
        """
    ),
    announcements=phrases(
        """
        hola
        buenas
        buenos días
        buenas tardes
        buenas noches
        hola buenas
        hola buenos días
        hola buenas tardes
        dígame
        aló
        un momento
        un segundo
        espere
        espera
        necesito ayuda
        me puede ayudar
        puede ayudarme
        """
    ),
    courtesies=phrases(
        """
        por favor
        gracias
        muchas gracias
        señor
        señora
        señorita
        adiós
        """
    ),
    asides=patterns(
        """
        creo/supongo/imagino/pienso
        creo yo
        """
    ),
    cannot_end=_ARTICLES - words("este esta estos estas ese esa esos esas")
    | words(
        """y e o u pero sino que si porque pues como cuando aunque mientras donde cuyo de del a al en con por para sin
        sobre desde hasta entre hacia según contra durante ante bajo tras mediante muy tan más yo me te se nos le
        les lo es son era fue está están estaba he has ha hemos han había puedo puede pueden podría podrían quiero
        quería quisiera gustaría debo debe voy va van tengo tiene tienen hay necesito solo qué cuál cuáles quién
        cómo dónde cuándo cuánto cuánta cuántos cuántas próximo próxima último última algún ningún cada mi su"""
    ),
    cannot_end_after=patterns(
        """
        me puede/podría/pueden
        a qué/cuál hora/fecha/dirección
        ^ qué hora/tipo/clase
        cerca/antes/después/además/dentro/fuera/acerca de
        me llamo
        me/nos/le dijo/dijeron
        me han dicho
        ^ le llamo
        ^ llamo
        podría/puede/quería/quisiera/me saber/decirme/decir/preguntar
        ^ podría/puede/quería/quisiera/necesito decirme/saber/preguntar
        me gustaría saber/preguntar
        lo que
        la/el/lo que
        ^ mi *
        el problema/motivo/número es
        ^ la/el @adjective
        en el/la/los/las
        """,
        adjective=words("próxima próximo última último misma mismo primera segunda"),
    ),
    may_end=patterns(
        """
        no/sí lo es/está
        cómo/qué/quién/dónde está/es/son/hay
        cómo va
        hora/cuál/quién/qué es
        qué tal
        qué más
        algo/nada/nunca/no/uno/una más
        una vez más
        lo que quiero/necesito/tengo
        eso es lo que quiero/necesito/hay
        ya no puedo
        yo no puedo
        cuando/si/como pueda/puede/quiera
        para/con/a/de él/ella/mí
        cuánto/qué es
        lo/la/los/las tengo/quiero/necesito
        también/tampoco yo
        todo lo que tengo
        se lo
        por qué
        para qué
        """,
    ),
    stranding=frozenset(),
    transitive=words(
        """incluye contiene buscando hay enviar mandar dar hacer comprar reservar cambiar necesito busco buscar
        encontrar recibir recibí compré pedí quiero tener tengo decir confirmar confirmarme enviarme mandarme
        darme decirme mostrarme saber conocer preguntar modificar solicitar recibido comprado enviado devolver
        repetir traer poner recoger"""
    ),
    object_before=words("que es son sido está fue"),
    clitics=words("lo la los las"),
    adverbs=words("no ya nunca también todavía"),
    fronted=words("que qué cuál cuánto cuántos cuántas cuánta todo algo nada lo"),
    auxiliaries=_AUXILIARIES,
    subjects=words("yo nadie"),
    verbs=words(
        """necesita prefiero prefiere abren abre cierran cierra cuesta cuestan hacen hace llega llegan llegó llegado
        funciona funcionan ofrecen ofrece aceptan acepta vale valen venden vende entregan entrega empieza termina
        llamo llamó llaman dice dicen sale salen parece sirve incluye incluyen cobran cobraron cobrado dijeron
        envían enviaron tarda tardan quieren viene vienen queda quedan falta pago pagar reservar cambiar cancelar
        hacer ir venir entrar ser estar tener devuelvan devuelven rota roto recibido pude pudo pasa pasó debería
        hago deja dejó ponen"""
    ),
    verb_endings=("ando", "iendo", "aron", "ieron", "ado", "ido"),
    determiners=_ARTICLES,
    subordinators=words("si cuando aunque mientras como"),
    embedding=words("si cuándo dónde cuánto cómo cuando cuántos cuántas"),
    indirect=words("cómo qué quién dónde cuándo cuánto cuál"),
    closing=words("es son está están era"),
    coordinators=words("y pero o"),
    possessives=words("mi mis nuestro nuestra"),
    requests=patterns(
        """
        quisiera/quiero/quería/necesito/busco/desearía/deseo
        me gustaría
        puedo/podría/podemos
        se puede
        llamo para
        le llamo para
        es posible
        querría/querríamos
        """
    ),
    pending=patterns(
        """
        es/sería posible
        no estoy seguro/segura
        """
    ),
    topics=patterns(
        """
        tengo/tenía/hay un/una otra/pequeño/pequeña/gran pregunta/problema/duda/consulta
        tengo/tenía/hay un/una pregunta/problema/duda/consulta/queja
        es sobre mi/el/la/un/una
        """
    ),
    narrations=patterns(
        """
        pedí/compré/reservé/recibí/envié/pagué/llamé/hice
        he pedido/comprado/reservado/recibido/pagado/hecho
        soy cliente
        """
    ),
    scheduled=words("reservar mesa cita habitación cambiar"),
    times=words(
        """lunes martes miércoles jueves viernes sábado sábados domingo domingos hoy mañana noche tarde mediodía semana
        mes año hora horas enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre
        ahora pronto navidad"""
    ),
    details=words("a al para por con en de del desde sobre sin que porque si cuando donde y pero como hasta"),
    continuations=words("y pero porque que"),
    numbers=_NUMBERS,
    letters={
        "guion": "-",
        "guión": "-",
        "más": "+",
        "barra": "/",
        "guion bajo": "_",
        "guión bajo": "_",
        "subrayado": "_",
        "hache": "h",
        "jota": "j",
        "eñe": "ñ",
        "uve": "v",
        "equis": "x",
        "zeta": "z",
        "i griega": "y",
        "uve doble": "w",
        "doble u": "w",
    },
    spelled_as=patterns("de\ncomo"),
    scales=words("cien ciento mil"),
    number_nouns=words("número código referencia teléfono móvil celular postal cuenta dni expediente iban"),
    phone_nouns=words("teléfono móvil celular"),
    email_nouns=words("email correo mail"),
    copulas=words("es"),
    clock=words("a las la en desde hasta de sobre"),
    at_signs=words("arroba at"),
    dots=words("punto"),
    postcode_nouns=words("postal"),
    months=words("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"),
    phone_digits=9,
    trunk_phone_digits=9,
    questions=(
        ("EMAIL", phrases("email\ncorreo\nmail\ncorreo electrónico")),
        ("POSTCODE", phrases("código postal")),
        ("PHONE", phrases("teléfono\nmóvil\ncelular\nnúmero de contacto")),
        ("BIRTHDATE", phrases("fecha de nacimiento\nnació\nnaciste")),
        ("SPELLING", phrases("deletrear\ndeletrea\ndeletrearlo\ndeletree")),
        ("NAME", phrases("nombre\napellido\napellidos\nse llama\nte llamas\ncon quién hablo")),
        ("QUANTITY", phrases("cuántos\ncuántas\ncuánto")),
        ("TIME", phrases("qué hora")),
        ("DATE", phrases("fecha\ncuándo\nqué día")),
        ("NUMBER", phrases("número\ncódigo\nreferencia\niban\ndni")),
        ("ADDRESS", phrases("dirección\ncalle\nvive")),
    ),
    yes_no=patterns(
        """
        es/está/tiene/quiere/desea/prefiere/puedo/le/quieres/son/hay/necesita
        """
    ),
    choice=words("o"),
)
